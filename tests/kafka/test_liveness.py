"""When silence means that the broker is away: after two probes in a row, not after a slow one."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka import hearing, liveness
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KafkaSettings

TOPIC_ID = "id"


class Asked:
    """Answers a probe, or does not in time; and so does the client."""

    def __init__(self) -> None:
        self.answers = True
        self.client_hears: KafkaError | None = None

    def topic_id(self, _topic: str, _timeout: float = 0.0) -> str:
        if not self.answers:
            raise BrokerUnavailableError("no answer within a second")
        return TOPIC_ID

    def ask_client(self, _timeout: float) -> None:
        if self.client_hears is not None:
            raise KafkaException(self.client_hears)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def events() -> ClientEvents:
    return ClientEvents(KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {}))


@pytest.fixture
def client(asked: Asked) -> hearing.Hearing:
    return hearing.Hearing(asked.ask_client)


@pytest.fixture
def probe(
    asked: Asked, events: ClientEvents, client: hearing.Hearing, monkeypatch: pytest.MonkeyPatch
) -> liveness.Probe:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_SECONDS", -1.0)  # each look asks
    monkeypatch.setattr(hearing, "INTERVAL_SECONDS", -1.0)
    consumed = GroupTopic("topic", TOPIC_ID, "group", "nowhere:9092", from_the_beginning=True)
    return liveness.Probe(cast("KafkaAdmin", asked), consumed, events, client)


def test_one_slow_answer_is_no_outage_and_two_are(
    asked: Asked, events: ClientEvents, probe: liveness.Probe
) -> None:
    asked.answers = False
    probe.look()
    assert not events.away
    probe.look()
    assert events.away
    asked.answers = True
    probe.look()
    assert not events.away


@pytest.mark.parametrize("by_message", [True, False])
def test_after_an_outage_one_slow_answer_is_no_outage_either(
    asked: Asked, events: ClientEvents, probe: liveness.Probe, by_message: bool
) -> None:
    """Whether a message or a probe showed that the broker is back."""
    asked.answers = False
    probe.look()
    probe.look()
    if by_message:
        probe.answered()
    else:
        asked.answers = True
        probe.look()
        asked.answers = False
    assert not events.away

    probe.look()

    assert not events.away


def both_look(probe: liveness.Probe, client: hearing.Hearing) -> None:
    """The one in a thread of its own, the other where messages are fetched."""
    probe.look()
    client.look()


def test_a_client_that_hears_nothing_while_others_do_is_deaf(
    asked: Asked, events: ClientEvents, probe: liveness.Probe, client: hearing.Hearing
) -> None:
    asked.client_hears = KafkaError(KafkaError._TRANSPORT)
    both_look(probe, client)
    client.look()  # others have not heard since
    assert not client.is_deaf
    both_look(probe, client)
    assert client.is_deaf
    assert not events.away
    probe.answered()
    assert not client.is_deaf


def test_a_client_is_not_deaf_while_the_broker_is_away(
    asked: Asked, probe: liveness.Probe, client: hearing.Hearing
) -> None:
    asked.client_hears = KafkaError(KafkaError._TRANSPORT)
    for answers in (True, False, True, False):
        asked.answers = answers
        both_look(probe, client)
    assert not client.is_deaf


def test_a_client_that_is_refused_has_heard(
    asked: Asked, probe: liveness.Probe, client: hearing.Hearing
) -> None:
    for code in (KafkaError._TRANSPORT, KafkaError.TOPIC_AUTHORIZATION_FAILED) * 2:
        asked.client_hears = KafkaError(code)
        both_look(probe, client)
    assert not client.is_deaf

"""When silence means that the broker is away: after two probes in a row, not after a slow one."""

from __future__ import annotations

from typing import cast

import pytest

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka import liveness
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KafkaSettings

TOPIC_ID = "id"


class Asked:
    """Answers a probe, or does not in time."""

    def __init__(self) -> None:
        self.answers = True

    def topic_id(self, _topic: str, _timeout: float = 0.0) -> str:
        if not self.answers:
            raise BrokerUnavailableError("no answer within a second")
        return TOPIC_ID


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def events() -> ClientEvents:
    return ClientEvents(KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {}))


@pytest.fixture
def probe(asked: Asked, events: ClientEvents, monkeypatch: pytest.MonkeyPatch) -> liveness.Probe:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_SECONDS", -1.0)  # each look asks
    consumed = GroupTopic("topic", TOPIC_ID, "group", "nowhere:9092", from_the_beginning=True)
    return liveness.Probe(cast("KafkaAdmin", asked), consumed, events)


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

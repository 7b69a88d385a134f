"""Clients that have let go of their brokers for good: only a fake one does so when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from MessageBroker import BrokerError, BrokerUnavailableError, OutgoingMessage
from MessageBroker.core.driver import Batch
from MessageBroker.core.outage import Outage
from MessageBroker.kafka import admin, hearing
from MessageBroker.kafka.admin import KafkaAdmin, TopicSettings
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.publisher import KafkaPublisher
from MessageBroker.kafka.settings import KafkaSettings

SETTINGS = KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {})
PATIENCE_SECONDS = 20.0


class DeafProducer:
    """Takes messages, and hears of no broker."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[KafkaError | None, Any], None]] = []
        self._purged: list[Callable[[KafkaError | None, Any], None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._purged)

    def produce(self, *_arguments: Any, **named: Any) -> None:
        self._waiting.append(named["on_delivery"])

    def list_topics(self, *_arguments: Any, **_named: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def purge(self) -> None:
        self._purged, self._waiting = self._waiting, []

    def poll(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.001))
        purged, self._purged = self._purged, []
        for settle in purged:
            settle(KafkaError(KafkaError._PURGE_QUEUE), None)

    flush = poll


class Brokers:
    """What another connection finds."""

    def __init__(self) -> None:
        self.are_there = True
        self.asked = threading.Semaphore(0)

    def serve(self) -> None:
        """There is nothing to hear."""

    def ping(self, _timeout: float) -> None:
        self.asked.release()
        if not self.are_there:
            raise BrokerUnavailableError("no answer")


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    monkeypatch.setattr(ClientEvents, "open", lambda *_: DeafProducer())
    monkeypatch.setattr(hearing, "INTERVAL_SECONDS", 0.01)
    return Brokers()


def sent(publisher: KafkaPublisher) -> tuple[Batch, threading.Event]:
    settled = threading.Event()
    batch = Batch("topic", [OutgoingMessage(b"a"), OutgoingMessage(b"b")], [1, 1], settled.set)
    publisher.send(batch)
    return batch, settled


def test_a_producer_that_hears_nothing_while_others_do_gives_up_and_says_so(
    brokers: Brokers,
) -> None:
    publisher = KafkaPublisher(SETTINGS, cast("KafkaAdmin", brokers), Outage())
    batch, settled = sent(publisher)
    assert settled.wait(PATIENCE_SECONDS)
    assert publisher.is_at_its_end
    assert set(batch.errors) == {0, 1}
    with pytest.raises(BrokerError, match="publish it again"):
        raise batch.errors[0]
    publisher.close()


def test_a_producer_waits_for_brokers_that_nobody_hears_of(brokers: Brokers) -> None:
    brokers.are_there = False
    publisher = KafkaPublisher(SETTINGS, cast("KafkaAdmin", brokers), Outage())
    _, settled = sent(publisher)
    for _ in range(5):
        assert brokers.asked.acquire(timeout=PATIENCE_SECONDS)
    assert not settled.is_set()
    assert not publisher.is_at_its_end
    publisher.close()


class DeafAdmin:
    """Hears of no broker."""

    def list_topics(self, *_arguments: Any, **_named: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def poll(self, _seconds: float) -> None:
        """There is nothing to hear."""


@pytest.mark.parametrize(("patience", "clients"), [(60.0, 1), (-1.0, 3)])
def test_an_admin_client_that_was_asked_in_vain_for_long_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, patience: float, clients: int
) -> None:
    made: list[DeafAdmin] = []

    def make(*_arguments: object) -> DeafAdmin:
        made.append(DeafAdmin())
        return made[-1]

    monkeypatch.setattr(ClientEvents, "open", make)
    monkeypatch.setattr(admin, "DEAF_SECONDS", patience)
    asking = KafkaAdmin(SETTINGS, TopicSettings())
    for _ in range(3):
        with pytest.raises(BrokerUnavailableError):
            asking.ping(0.01)
    assert len(made) == clients

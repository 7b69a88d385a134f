"""The thread that hears from the producer, where only a fake one fails or stands still in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from MessageBroker import BrokerError, OutgoingMessage
from MessageBroker.core.driver import Batch
from MessageBroker.core.outage import Outage
from MessageBroker.kafka import hearing
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.publisher import KafkaPublisher
from MessageBroker.kafka.settings import KafkaSettings
from tests.kafka.fakes import DeafProducer, SupposingProducer

SETTINGS = KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {})
PATIENCE_SECONDS = 20.0


class FrozenBrokers:
    """Whoever asks them waits until the test is over."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()

    def serve(self) -> None:
        """There is nothing to hear."""

    def ping(self, _timeout: float) -> None:
        self.asked.set()
        self.over.wait()


@pytest.fixture
def brokers() -> Iterator[FrozenBrokers]:
    frozen = FrozenBrokers()
    yield frozen
    frozen.over.set()


def publisher_over(
    client: DeafProducer, brokers: FrozenBrokers, monkeypatch: pytest.MonkeyPatch
) -> KafkaPublisher:
    monkeypatch.setattr(ClientEvents, "open", lambda *_: client)
    return KafkaPublisher(SETTINGS, cast("Cluster", brokers), Outage())


def sent(publisher: KafkaPublisher) -> tuple[Batch, threading.Event]:
    settled = threading.Event()
    batch = Batch("topic", [OutgoingMessage(b"a")], [1], settled.set)
    publisher.send(batch)
    return batch, settled


def test_a_thread_that_fails_lets_nobody_wait_for_ever(
    brokers: FrozenBrokers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = DeafProducer()
    publisher = publisher_over(client, brokers, monkeypatch)
    client.faults = [TypeError("out of its wits")]
    batch, settled = sent(publisher)

    assert settled.wait(PATIENCE_SECONDS)
    assert isinstance(batch.errors[0], BrokerError)
    assert publisher.is_at_its_end  # the next call makes another one
    assert "out of its wits" in caplog.text


def test_closing_waits_no_longer_than_it_may_for_brokers_that_stand_still(
    brokers: FrozenBrokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "INTERVAL_SECONDS", 0.0)
    publisher = publisher_over(DeafProducer(), brokers, monkeypatch)
    _, settled = sent(publisher)
    assert brokers.asked.wait(PATIENCE_SECONDS)

    began = time.monotonic()
    publisher.close(0.0)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert settled.is_set()


def test_what_the_client_only_supposes_to_be_there_is_sent_once_more(
    brokers: FrozenBrokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SupposingProducer()
    publisher = publisher_over(client, brokers, monkeypatch)
    batch, settled = sent(publisher)

    assert settled.wait(PATIENCE_SECONDS)
    assert client.produced == 2
    assert (batch.errors, batch.ids) == ({}, ["0-2-1700000000000"])
    publisher.close(PATIENCE_SECONDS)

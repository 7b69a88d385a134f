"""Clients that have let go of their brokers for good: only a fake one does so when told to."""

from __future__ import annotations

import queue
import socket
import threading
import time
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from MessageBroker import BrokerError, BrokerUnavailableError, OutgoingMessage
from MessageBroker.core.driver import Batch
from MessageBroker.core.outage import Outage
from MessageBroker.kafka import admin, cluster, committed_offsets, hearing
from MessageBroker.kafka.admin import KafkaAdmin, TopicSettings
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.committed_offsets import GroupReader, GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.publisher import KafkaPublisher
from MessageBroker.kafka.settings import KafkaSettings
from tests.kafka.fakes import DeafProducer

SETTINGS = KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {})
PATIENCE_SECONDS = 20.0


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
    publisher = KafkaPublisher(SETTINGS, cast("Cluster", brokers), Outage())
    batch, settled = sent(publisher)
    assert settled.wait(PATIENCE_SECONDS)
    assert publisher.is_at_its_end
    assert set(batch.errors) == {0, 1}
    with pytest.raises(BrokerError, match="publish it again"):
        raise batch.errors[0]
    publisher.close(PATIENCE_SECONDS)


def test_a_producer_waits_for_brokers_that_nobody_hears_of(brokers: Brokers) -> None:
    brokers.are_there = False
    publisher = KafkaPublisher(SETTINGS, cast("Cluster", brokers), Outage())
    _, settled = sent(publisher)
    for _ in range(5):
        assert brokers.asked.acquire(timeout=PATIENCE_SECONDS)
    assert not settled.is_set()
    assert not publisher.is_at_its_end
    publisher.close(PATIENCE_SECONDS)


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
    monkeypatch.setattr(cluster, "DEAF_SECONDS", patience)
    asking = Cluster(SETTINGS)
    for _ in range(3):
        with pytest.raises(BrokerUnavailableError):
            asking.ping(0.01)
    assert len(made) == clients


def test_a_question_is_answered_though_the_client_is_let_go_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the client itself, once it has waited for long enough."""
    monkeypatch.setattr(admin, "REQUEST_TIMEOUT_SECONDS", 1.0)
    answers = queue.Queue[BaseException]()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        brokers = Cluster(KafkaSettings({"bootstrap.servers": servers}, {}, {}))

        def ask() -> None:
            try:
                KafkaAdmin(brokers, TopicSettings()).latest("topic", [0])
            except BaseException as error:
                answers.put(error)

        threading.Thread(target=ask, daemon=True).start()
        silent.accept()  # it is on its way
        brokers.close()
        assert isinstance(answers.get(timeout=PATIENCE_SECONDS), BrokerUnavailableError)


class Reader:
    """A consumer that reads committed offsets, while it hears of a broker."""

    def __init__(self, hears: bool) -> None:
        self._hears = hears
        self.closed = threading.Event()

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if not self._hears:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return [TopicPartition(each.topic, each.partition, 7) for each in wanted]

    def poll(self, _timeout: float) -> None:
        """There is nothing to hear."""

    def close(self) -> None:
        self.closed.set()


def test_a_reader_of_offsets_that_was_not_heard_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaf, other = Reader(hears=False), Reader(hears=True)
    made = iter([deaf, other])
    monkeypatch.setattr(ClientEvents, "open", lambda *_: next(made))
    monkeypatch.setattr(committed_offsets, "READ_TIMEOUT_SECONDS", 0.0)
    groups = GroupReader(SETTINGS)
    consumed = GroupTopic("topic", "", "topic-sub", "nowhere:9092", from_the_beginning=True)

    with pytest.raises(BrokerUnavailableError):
        groups.committed(consumed, [0])

    assert groups.committed(consumed, [0]) == {0: 7}
    assert deaf.closed.wait(PATIENCE_SECONDS)
    groups.close()
    assert other.closed.is_set()


def test_whoever_asks_for_offsets_waits_for_other_threads_within_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, asked, answers = Reader(hears=True), threading.Event(), threading.Event()

    def hang(wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        asked.set()
        answers.wait(PATIENCE_SECONDS)
        return wanted

    monkeypatch.setattr(reader, "committed", hang)
    monkeypatch.setattr(ClientEvents, "open", lambda *_: reader)
    groups = GroupReader(SETTINGS)
    consumed = GroupTopic("topic", "", "topic-sub", "nowhere:9092", from_the_beginning=True)
    other = threading.Thread(target=groups.committed, args=(consumed, [0]))
    other.start()
    asked.wait(PATIENCE_SECONDS)

    with pytest.raises(BrokerUnavailableError, match="other threads still wait"):
        groups.reach("topic", "other-sub", time.monotonic() + 0.1)

    assert not answers.is_set()
    answers.set()
    other.join()
    groups.close()


def test_that_nobody_answers_how_topics_are_kept_is_told_once_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "REQUEST_TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        brokers = Cluster(KafkaSettings({"bootstrap.servers": servers}, {}, {}))
        with pytest.raises(BrokerUnavailableError, match="topic 'one' is kept"):
            KafkaAdmin(brokers, TopicSettings()).compacted(["one", "two"])

"""A message that is alone: it waits for no company, for no timer and for no other thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from MessageBroker import OutgoingMessage
from MessageBroker.kafka import publisher as kafka_publisher
from MessageBroker.kafka.publisher import KafkaPublisher
from tests.kafka.conftest import Connect
from tests.waiting import wait_until

PATIENCE_SECONDS = 30.0


def test_who_waits_for_its_batch_does_not_wait_for_company(connect: Connect, topic: str) -> None:
    """With ten minutes' time for others to share a request."""
    broker = connect(producer={"linger.ms": "600000"})
    broker.create_topic(topic)
    lonely: Future[str] = broker.publish(topic, b"in no hurry")
    with ThreadPoolExecutor() as threads:
        batch = [OutgoingMessage(b"%d" % number) for number in range(3)]
        ids = threads.submit(broker.publish_batch, topic, batch).result(PATIENCE_SECONDS)
    assert len(set(ids)) == 3
    assert lonely.result(PATIENCE_SECONDS)  # it went with them


def test_preparation_ends_when_the_broker_is_closed(
    connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_publisher, "PRODUCER_ID_SECONDS", 3600.0)
    broker = connect()
    broker.create_topic(topic)
    with ThreadPoolExecutor() as threads:
        prepared = threads.submit(broker.prepare_publishing, topic)
        assert not prepared.done()
        broker.close(0.0)
        prepared.result(PATIENCE_SECONDS)


def test_preparation_ends_where_nobody_answers(
    connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_publisher, "LOOK_UP_SECONDS", 0.1)
    nowhere = connect({"bootstrap.servers": "127.0.0.1:1"})
    nowhere._known_topics.add(topic)
    nowhere.prepare_publishing(topic)


def test_nobody_stands_at_the_client_while_no_confirmation_is_due(
    connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be given the next one, and the sender that waits for it would look in vain."""
    waits: list[float] = []
    poll = KafkaPublisher._poll

    def counted(publisher: KafkaPublisher, seconds: float) -> None:
        if threading.current_thread().name == "kafka publisher":
            waits.append(seconds)
        poll(publisher, seconds)

    monkeypatch.setattr(KafkaPublisher, "_poll", counted)
    broker = connect()
    broker.create_topic(topic)
    wait_until(lambda: len(waits) > 2, "the publisher's thread has served the client")
    broker.publish_batch(topic, [OutgoingMessage(b"one")])
    assert set(waits) == {0}
    broker.publish(topic, b"two").result(PATIENCE_SECONDS)  # for which no sender waits
    assert max(waits) > 0

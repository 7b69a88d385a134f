"""What a person sees while the broker is away, and that closing does not wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from MessageBroker import ClosedError, DeliverySettings, OutgoingMessage
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.kafka_server import KafkaCluster

PATIENCE_SECONDS = 30.0
# What a receive may take beyond its time, on a busy machine (s).
SLACK_SECONDS = 4.0


@pytest.fixture(scope="module")
def broken() -> Iterator[KafkaCluster]:
    """A node of its own: it is killed and started again."""
    find_or_skip()
    with KafkaCluster() as cluster:
        yield cluster


def connect(cluster: KafkaCluster) -> KafkaHandler:
    return KafkaHandler(
        {"bootstrap.servers": cluster.bootstrap_servers}, delivery=DeliverySettings()
    )


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(
    broken: KafkaCluster, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with connect(broken) as broker:
        broker.create_topic("outage")
        with broker.subscribe("outage") as subscription:
            broker.publish("outage", b"before").result(10)
            subscription.ack(subscription.receive(1, 10.0))
            broken.kill()
            during = {b"during 1", b"during 2", b"during 3"}
            away: list[Future[str]] = [broker.publish("outage", each) for each in during]
            deadline = time.monotonic() + 5.0
            while time.monotonic() < deadline:
                assert subscription.receive(1, 0.5) == []
            assert not subscription.ready
            broken.restart()

            for future in away:
                future.result(PATIENCE_SECONDS)
            arrived: set[bytes] = set()
            deadline = time.monotonic() + PATIENCE_SECONDS
            # What was acked just before the end may come again.
            while not during <= arrived and time.monotonic() < deadline:
                arrived.update(message.data for message in subscription.receive(3, 0.5))

    assert during <= arrived
    lines = [f"{each.levelname} {each.getMessage()}" for each in caplog.records]
    assert [line.split()[0] for line in lines] == ["WARNING", "INFO"], lines
    assert "is back" in lines[1]
    assert capfd.readouterr().err == ""


def test_a_receive_keeps_its_time_where_the_broker_freezes_just_after_a_rebalance(
    broken: KafkaCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = KafkaAdmin.with_leaders, threading.Event()

    def freeze(admin: KafkaAdmin, topic: str) -> set[int]:
        """As the consumer asks where to go on in what it was dealt."""
        if not asked.is_set():
            asked.set()
            broken.pause()
        return ask(admin, topic)

    with connect(broken) as broker:
        broker.create_topic("dealt-anew")
        with broker.subscribe("dealt-anew") as subscription:
            other = broker.subscribe("dealt-anew")
            published = {bytes([each]) for each in range(30)}
            broker.publish_batch("dealt-anew", [OutgoingMessage(each) for each in published])
            monkeypatch.setattr(KafkaAdmin, "with_leaders", freeze)
            closing = threading.Thread(target=other.close)
            closing.start()
            arrived: set[bytes] = set()
            slow: list[float] = []
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not caplog.messages and time.monotonic() < deadline:
                began = time.monotonic()
                arrived.update(each.data for each in subscription.receive(30, 0.5))
                lasted = time.monotonic() - began
                slow += [lasted] if lasted > 0.5 + SLACK_SECONDS else []
            broken.resume()
            assert asked.is_set()
            assert not slow
            assert "waiting for it" in caplog.text

            deadline = time.monotonic() + PATIENCE_SECONDS
            while arrived != published and time.monotonic() < deadline:
                arrived.update(message.data for message in subscription.receive(30, 0.5))
            closing.join()
    assert arrived == published


def test_closing_does_not_wait_for_a_broker_that_is_frozen(broken: KafkaCluster) -> None:
    broker = connect(broken)
    broker.create_topic("frozen")
    subscription = broker.subscribe("frozen")
    broker.publish("frozen", b"before").result(10)
    subscription.ack(subscription.receive(1, 10.0))
    broken.pause()
    try:
        future = broker.publish("frozen", b"during")
        began = time.monotonic()

        broker.close(1.0)

        assert time.monotonic() - began < 15.0
        with pytest.raises(ClosedError):
            future.result(0)
    finally:
        broken.resume()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_consumer_goes_on_after_each_freeze_of_the_only_node(broken: KafkaCluster) -> None:
    """The client once let the only broker go that it knew, and got nothing for five minutes."""
    with connect(broken) as broker:
        broker.create_topic("freezes")
        with broker.subscribe("freezes") as subscription:
            for seconds in (13.0, 14.0, 14.5, 15.0, 15.5, 16.0):
                broken.pause()
                published = broker.publish("freezes", str(seconds).encode())
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    subscription.receive(1, 0.2)
                broken.resume()
                published.result(PATIENCE_SECONDS)

                until = time.monotonic() + PATIENCE_SECONDS
                arrived: set[bytes] = set()
                while str(seconds).encode() not in arrived:
                    assert time.monotonic() < until, seconds
                    messages = subscription.receive(10, 0.5)
                    arrived.update(message.data for message in messages)
                    subscription.ack(messages)

"""What a publisher does while its brokers are behind: it sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from MessageBroker import OutgoingMessage
from MessageBroker.core.broker import BrokerCore
from MessageBroker.kafka.lingering import STUCK_SECONDS, Lingering
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect

BODY = b"x" * 900
# More than one request holds, so that the rest waits for the first one's confirmation.
MESSAGES = 1500
SETTLED_SECONDS, WATCHED_SECONDS = 0.5, 1.0
PATIENCE_SECONDS = 30.0


def in_a_batch(broker: BrokerCore, topic: str) -> None:
    broker.publish_batch(topic, [OutgoingMessage(BODY)] * MESSAGES)


def by_futures(broker: BrokerCore, topic: str) -> None:
    first = [broker.publish(topic, BODY) for _ in range(MESSAGES // 2)]
    time.sleep(SETTLED_SECONDS / 4)  # those are on their way now
    rest = [broker.publish(topic, BODY) for _ in range(MESSAGES // 2)]
    for future in [*first, *rest]:
        future.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("publish", [in_a_batch, by_futures])
def test_who_publishes_to_brokers_that_are_behind_leaves_the_cores_to_them(
    cluster: KafkaCluster,
    connect: Connect,
    topic: str,
    publish: Callable[[BrokerCore, str], None],
) -> None:
    broker = connect(producer={"sticky.partitioning.linger.ms": "60000"})
    broker.create_topic(topic)
    broker.publish_batch(topic, [OutgoingMessage(BODY)])
    publishing = threading.Thread(target=publish, args=(broker, topic))
    cluster.pause()
    try:
        publishing.start()
        time.sleep(SETTLED_SECONDS)
        before = time.process_time()
        time.sleep(WATCHED_SECONDS)
        spent = time.process_time() - before
    finally:
        cluster.resume()
    publishing.join(PATIENCE_SECONDS)
    assert not publishing.is_alive()
    assert spent < WATCHED_SECONDS / 2, "a core was taken to look whether they have answered"


def test_what_is_stuck_is_flushed_rarely_and_what_moves_in_its_time() -> None:
    lingering = Lingering(0.005)
    assert lingering.seconds_left <= 0.005
    for _ in range(10):
        lingering.flushed(7)
    assert STUCK_SECONDS / 2 < lingering.seconds_left <= STUCK_SECONDS
    lingering.flushed(6)
    assert lingering.seconds_left <= 0.005


def test_who_asks_for_more_time_than_that_has_it() -> None:
    lingering = Lingering(60.0)
    lingering.flushed(7)
    assert lingering.seconds_left > 50.0

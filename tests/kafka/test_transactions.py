"""Behind a transactional producer offsets are no count of messages."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer

from MessageBroker import dead_letters
from MessageBroker.conformance.stories import receive, wait_until
from MessageBroker.kafka.admin import TopicSettings
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect

# A look at letters that waits for what will not come takes 16 s.
AT_ONCE_SECONDS = 10.0


def write(cluster: KafkaCluster, topic: str, committed: int, aborted: int) -> None:
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": f"of {topic}"}
    )
    producer.init_transactions(30)
    for number in range(committed + aborted):
        producer.begin_transaction()
        producer.produce(topic, b"message", partition=0)
        producer.flush(30)
        if number < committed:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)


@pytest.mark.timeout(120)
def test_the_backlog_becomes_0_behind_a_transactional_producer(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    write(cluster, topic, committed=3, aborted=4)
    with broker.subscribe(topic) as subscription:
        first, second, third = receive(subscription, 3)
        subscription.ack([first, third])
        for _ in range(10):
            assert subscription.receive(10, 0.1) == []
        assert (broker.backlog(topic) or 0) > 0  # nothing un-acked is passed over

        subscription.ack([second])

        def is_empty() -> bool:
            subscription.receive(1, 0.1)
            return broker.backlog(topic) == 0

        wait_until(is_empty, "nothing is left")
    broker.publish(topic, b"after").result()
    with connect().subscribe(topic) as subscription:
        assert receive(subscription, 1)[0].data == b"after"


@pytest.mark.timeout(120)
def test_letters_are_listed_without_waiting_for_what_never_comes(
    cluster: KafkaCluster, connect: Connect, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1), delivery=dead_letters.READING)
    broker.create_topic(topic)
    write(cluster, f"{topic}-dead-letter", committed=2, aborted=2)
    began = time.monotonic()

    letters = dead_letters.read_letters(broker, topic).letters

    assert len(letters) == 2
    assert time.monotonic() - began < AT_ONCE_SECONDS

"""Topics of others: compacted ones, those that get more partitions meanwhile or are deleted."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from MessageBroker import ConfigurationError, TopicNotFoundError
from tests.kafka.conftest import Connect

# Partitions that are added are found within this long (s).
FOUND_SECONDS = 30.0


def make(admin: AdminClient, topic: str, partitions: int = 1, **config: str) -> None:
    config = {name.replace("_", "."): value for name, value in config.items()}
    new = NewTopic(topic, num_partitions=partitions, config=config)
    for future in admin.create_topics([new]).values():
        future.result(20)


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_told_at_subscribe(
    connect: Connect,
    admin: AdminClient,
    topic: str,
    policy: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(admin, topic, cleanup_policy=policy)

    connect().subscribe(topic)

    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == 1
    assert repr(topic) in told[0]
    assert "cleanup.policy=delete" in told[0]


def test_a_message_without_a_key_to_a_compacted_topic_says_why(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    make(admin, topic, cleanup_policy="compact")

    with pytest.raises(ConfigurationError, match=r"key.*cleanup\.policy=delete"):
        connect().publish(topic, b"body").result(20)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("subscription_id", [None, "from-the-end"])
def test_partitions_that_are_added_meanwhile_are_found_and_nothing_is_skipped(
    connect: Connect, admin: AdminClient, topic: str, subscription_id: str | None
) -> None:
    make(admin, topic, partitions=2)
    name = subscription_id and f"{subscription_id}-{topic}"
    with connect().subscribe(topic, name) as subscription:
        for future in admin.create_partitions([NewPartitions(topic, 4)]).values():
            future.result(20)
        began = time.monotonic()
        producer = Producer(servers_of(connect))
        for number in range(40):
            producer.produce(topic, str(number).encode(), partition=2 + number % 2)
        assert producer.flush(20) == 0

        arrived: set[bytes] = set()
        while len(arrived) < 40 and time.monotonic() - began < FOUND_SECONDS:
            messages = subscription.receive(100, 1.0)
            arrived.update(message.data for message in messages)
            subscription.ack(messages)

    assert len(arrived) == 40


def test_messages_to_topics_that_are_deleted_meanwhile_say_so(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    """Where they wait in a partition that goes, the client only says that it was destroyed."""
    topics = [f"{topic}-{number}" for number in range(6)]
    for each in topics:
        make(admin, each)

    def publish_while_it_goes(name: str) -> BaseException | None:
        broker = connect()
        broker.publish(name, b"before").result(20)
        connect().delete_topic(name)
        return broker.publish(name, b"after").exception(60)

    with ThreadPoolExecutor(len(topics)) as threads:
        errors = list(threads.map(publish_while_it_goes, topics))

    assert [type(error) for error in errors] == [TopicNotFoundError] * len(topics), errors


def servers_of(connect: Connect) -> dict[str, str]:
    return {"bootstrap.servers": connect()._settings.servers}

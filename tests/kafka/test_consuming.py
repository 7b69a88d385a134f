"""Consuming where only Kafka is like that: retention, groups, leases of whole partitions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, NewPartitions

from MessageBroker import (
    ConfigurationError,
    DeliverySettings,
    Message,
    OutgoingMessage,
    TopicNotFoundError,
)
from MessageBroker.conformance.stories import receive
from MessageBroker.kafka.admin import TopicSettings
from tests.kafka.conftest import Connect
from tests.waiting import wait_until

PATIENCE_SECONDS = 20.0


def numbered(count: int, size: int = 1) -> list[OutgoingMessage]:
    return [OutgoingMessage(str(number).encode().zfill(size)) for number in range(count)]


def bodies(messages: Sequence[Message | OutgoingMessage]) -> set[bytes]:
    return {message.data for message in messages}


def test_acks_are_committed_soon_and_a_new_member_goes_on_behind_them(
    connect: Connect, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(10))
    with broker.subscribe(topic) as subscription:
        messages = receive(subscription, 10)
        subscription.ack(messages[5:])  # a gap: nothing may be committed
        assert broker.backlog(topic) == 10
        subscription.ack(messages[:3])
        wait_until(lambda: broker.backlog(topic) == 7, "three acks are committed")

    with broker.subscribe(topic) as subscription:
        assert bodies(receive(subscription, 7)) == bodies(messages[3:])


def test_messages_that_retention_removed_are_reported_once_and_passed(
    connect: Connect, admin: AdminClient, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(10))
    with broker.subscribe(topic) as subscription:
        subscription.ack(receive(subscription, 2))
    for future in admin.delete_records([TopicPartition(topic, 0, 6)]).values():
        future.result()

    with caplog.at_level(logging.ERROR), broker.subscribe(topic) as subscription:
        messages = receive(subscription, 4)

    assert bodies(messages) == {b"6", b"7", b"8", b"9"}
    (error,) = [record.getMessage() for record in caplog.records]
    assert "retention removed" in error
    assert "from offset 2 to 5" in error


def test_offsets_that_expired_begin_at_the_earliest(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(3))
    with broker.subscribe(topic) as subscription:
        subscription.ack(receive(subscription, 3))
    wait_until(lambda: _deleted(admin, f"{topic}-sub"), "the group is deleted")

    with broker.subscribe(topic) as subscription:
        assert len(receive(subscription, 3)) == 3


def _deleted(admin: AdminClient, group: str) -> bool:
    """Expiry deletes a group as this does."""
    (future,) = admin.delete_consumer_groups([group]).values()
    return future.exception() is None


def test_partitions_that_were_added_later_miss_nothing(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.subscribe(topic, "late-" + topic).close()
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result()
    wait_until(lambda: len(broker._admin.partitions(topic) or ()) == 4, "there are four")
    broker.publish_batch(topic, numbered(40))

    with broker.subscribe(topic, "late-" + topic) as subscription:
        assert len(bodies(receive(subscription, 40))) == 40


def test_partitions_that_are_added_under_a_consumer_are_its_own(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    quick = {"topic.metadata.refresh.interval.ms": "500"}
    broker = connect(quick, topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    with broker.subscribe(topic) as subscription:
        assert subscription.receive(1, 0.5) == []
        admin.create_partitions([NewPartitions(topic, 4)])[topic].result()
        wait_until(lambda: len(broker._admin.partitions(topic) or ()) == 4, "there are four")
        broker.publish_batch(topic, numbered(400))

        assert len(bodies(receive(subscription, 400))) == 400


def test_a_message_kept_too_long_comes_again_to_another_consumer(
    connect: Connect, topic: str
) -> None:
    delivery = DeliverySettings(max_lease_seconds=2.0)
    slow, quick = connect(delivery=delivery), connect(topic=TopicSettings(num_partitions=1))
    quick.create_topic(topic)
    quick.publish_batch(topic, numbered(3))
    with slow.subscribe(topic) as hanging:
        kept = receive(hanging, 3)

        with quick.subscribe(topic) as subscription:
            assert bodies(receive(subscription, 3)) == bodies(kept)

        hanging.ack(kept)
        assert hanging.late_acks == 3


def test_a_dead_letter_topic_keeps_its_messages_for_ever(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    connect().create_topic(topic)
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{topic}-dead-letter")

    (future,) = admin.describe_configs([resource]).values()

    config: dict[str, ConfigEntry] = future.result()
    assert config["retention.ms"].value == "-1"
    # A message that its topic takes fits as a letter, with more attributes.
    assert int(config["max.message.bytes"].value) > 8388608


def test_a_group_that_has_offsets_in_another_topic_is_refused(connect: Connect, topic: str) -> None:
    broker = connect()
    broker.create_topic(topic)
    broker.create_topic(topic + "-other")
    broker.subscribe(topic, "shared-" + topic).close()

    with pytest.raises(ConfigurationError, match=topic):
        broker.subscribe(topic + "-other", "shared-" + topic)


def test_a_topic_deleted_under_a_consumer_is_an_error(connect: Connect, topic: str) -> None:
    broker = connect()
    broker.create_topic(topic)
    with broker.subscribe(topic) as subscription:
        broker.delete_topic(topic)

        with pytest.raises(TopicNotFoundError):
            for _ in range(40):
                subscription.receive(1, 0.5)


def test_a_topic_made_again_begins_anew(connect: Connect, topic: str) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(5))
    with broker.subscribe(topic) as subscription:
        subscription.ack(receive(subscription, 5))

    broker.delete_topic(topic)
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(3))

    with broker.subscribe(topic) as subscription:
        assert bodies(receive(subscription, 3)) == {b"0", b"1", b"2"}


def test_a_group_may_have_more_consumers_than_partitions(connect: Connect, topic: str) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    with broker.subscribe(topic) as first, broker.subscribe(topic) as second:
        broker.publish_batch(topic, numbered(5))
        wait_until(lambda: first.ready and second.ready, "both are ready")

        arrived: list[Message] = []
        wait_until(
            lambda: (
                len(arrived.extend(first.receive(5, 0.1) + second.receive(5, 0.1)) or arrived) == 5
            ),
            "all five have come",
        )

    assert len(bodies(arrived)) == 5


def test_a_consumer_at_work_gives_up_partitions_that_another_shall_have(
    connect: Connect, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=4))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(2000, 100))
    with broker.subscribe(topic) as busy:
        kept = receive(busy, 10)  # and fetches no more: it is at work on these

        with broker.subscribe(topic) as other:
            began = time.monotonic()
            messages: list[Message] = []
            while not messages and time.monotonic() - began < PATIENCE_SECONDS:
                messages = other.receive(100, 0.5)
            assert messages
        busy.ack(kept)


def test_offsets_committed_by_a_foreign_tool_are_respected(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(5))
    request = ConsumerGroupTopicPartitions(f"{topic}-sub", [TopicPartition(topic, 0, 3)])
    for future in admin.alter_consumer_group_offsets([request]).values():
        future.result()

    with broker.subscribe(topic) as subscription:
        assert bodies(receive(subscription, 2)) == {b"3", b"4"}


def test_an_offset_committed_beyond_the_end_begins_at_the_earliest(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    broker = connect(topic=TopicSettings(num_partitions=1))
    broker.create_topic(topic)
    broker.publish_batch(topic, numbered(5))
    request = ConsumerGroupTopicPartitions(f"{topic}-sub", [TopicPartition(topic, 0, 1000)])
    for future in admin.alter_consumer_group_offsets([request]).values():
        future.result()

    with broker.subscribe(topic) as subscription:
        messages = receive(subscription, 5)
        assert bodies(messages) == bodies(numbered(5))
        subscription.ack(messages[:3])
        wait_until(lambda: broker.backlog(topic) == 2, "all others are committed")

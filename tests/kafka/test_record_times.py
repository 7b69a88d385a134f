"""The time in a message's id is the one that consumers see, whoever gave it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from MessageBroker import ConfigurationError, OutgoingMessage
from MessageBroker.conformance.stories import receive
from MessageBroker.kafka.record_times import RecordTimes, broker_gives_times
from MessageBroker.kafka_handler import KafkaHandler
from tests.kafka.conftest import Connect
from tests.kafka.test_foreign_topics import make


@dataclass
class Confirmed:
    """A record as the client hands it back."""

    kind: int
    time: int

    def timestamp(self) -> tuple[int, int]:
        return self.kind, self.time


def ids_told(broker: KafkaHandler, topic: str) -> list[str]:
    batch = [OutgoingMessage(b"body") for _ in range(20)]
    return [*broker.publish_batch(topic, batch), broker.publish(topic, b"one").result(20)]


def test_a_topic_that_gives_the_times_itself(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    make(admin, topic, message_timestamp_type="LogAppendTime")
    broker = connect()
    with broker.subscribe(topic) as subscription:
        told = ids_told(broker, topic)
        assert [message.id for message in receive(subscription, 21)] == told


@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
def test_who_gives_the_times_is_asked_where_the_first_confirmation_does_not_show_it(
    connect: Connect, admin: AdminClient, topic: str, kind: str
) -> None:
    make(admin, topic, message_timestamp_type=kind)
    broker = connect()
    assert broker_gives_times(broker._cluster, topic) is (kind == "LogAppendTime")


def test_a_topic_that_comes_to_give_the_times_itself(
    connect: Connect, admin: AdminClient, topic: str
) -> None:
    make(admin, topic)
    broker = connect()
    with broker.subscribe(topic) as subscription:
        told = ids_told(broker, topic)
        entry = ConfigEntry(
            "message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(20)
        told += ids_told(broker, topic)
        assert [message.id for message in receive(subscription, 42)] == told


@pytest.mark.parametrize("messages", [1, 5])  # of which the client says other errors
def test_a_clock_that_was_hours_ahead_and_is_set_right_keeps_nobody_from_publishing(
    connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    broker = connect()
    broker.create_topic(topic)
    now, ahead = time.time_ns, 3 * 3600 * 10**9
    monkeypatch.setattr(
        "MessageBroker.kafka.record_times.time",
        SimpleNamespace(time_ns=lambda: now() + ahead),
    )
    for future in [broker.publish(topic, b"from the future") for _ in range(messages)]:
        with pytest.raises(ConfigurationError, match="set this machine's clock right"):
            future.result(20)

    monkeypatch.undo()

    told = broker.publish(topic, b"one").result(20)
    with broker.subscribe(topic) as subscription:
        assert [message.id for message in receive(subscription, 1)] == [told]


def test_a_batch_that_the_broker_has_already_keeps_the_times_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = RecordTimes(lambda topic: topic != "topic that was never heard of")
    now = 1_000_000_000  # ns
    monkeypatch.setattr("MessageBroker.kafka.record_times.time.time_ns", lambda: now)
    first = times.begin()
    now += 1_000_000
    second = times.begin()
    assert (first, second) == (1000, 1001)

    assert times.of("topic", first, Confirmed(TIMESTAMP_CREATE_TIME, first)) == first
    again = Confirmed(TIMESTAMP_LOG_APPEND_TIME, second)  # the latest of the batch
    assert [times.of("topic", given, again) for given in (first, second)] == [first, second]
    assert times.of("another", first, again) == second  # it gives the times itself
    assert times.of("topic that was never heard of", first, again) == first
    later = Confirmed(TIMESTAMP_LOG_APPEND_TIME, second + 1)
    assert times.of("topic", first, later) == second + 1  # and this one does, by now
    assert times.of("topic", first, again) == second

"""Reading records from the place that a letter names."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.errors import BrokerUnavailableError, MessageNotFoundError
from MessageBroker.kafka.assignment import PartitionTracker
from MessageBroker.kafka.buffer import RecordBuffer
from MessageBroker.kafka.errors import Right, error_of, meaning_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.records import polled
from MessageBroker.kafka.refused import REFUSED
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.message import Message

# What reading one place may take (s): megabytes over a slow line.
READ_SECONDS = 60.0
POLL_SECONDS = 0.5
_PLACE = re.compile(
    r"(?P<topic>[^/]+)/(?P<partition>\d{1,9})/(?P<first>\d{1,18})(-(?P<last>\d{1,18}))?"
)
_READING = {
    "enable.auto.commit": "false",
    "isolation.level": "read_uncommitted",
    "auto.offset.reset": "error",
}


@dataclass(frozen=True)
class Place:
    """Where records stand.

    Attributes:
        topic: the topic.
        partition: the partition.
        first: the offset of the first.
        last: that of the last.
    """

    topic: str
    partition: int
    first: int
    last: int

    @classmethod
    def of(cls, text: str) -> Place:
        """Read `<topic>/<partition>/<first>[-<last>]`.

        Raises:
            MessageNotFoundError: it is something else.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise MessageNotFoundError(f"kafka: {text!r} is no place of a record")
        first = int(found["first"])
        return cls(found["topic"], int(found["partition"]), first, int(found["last"] or first))


def read(settings: KafkaSettings, place: Place) -> list[Message]:
    """Read the records that stand at a place.

    Raises:
        MessageNotFoundError: they are there no longer, or cannot be read.
        BrokerUnavailableError: the cluster does not answer.
    """
    where = f"Kafka at {settings.servers}: topic {place.topic!r}, partition {place.partition}"
    # A consumer needs one; it joins and commits nothing. Who replays letters may read this one.
    group = default_subscription(dead_letter_topic(place.topic))
    events = ClientEvents(settings, (Right("READ", "topic", place.topic),))
    client = events.open(Consumer, {**settings.for_consumer(group), **_READING})
    buffer = RecordBuffer(place.topic)
    trackers = {place.partition: PartitionTracker(place.partition, place.first)}
    messages: list[Message] = []
    deadline = time.monotonic() + READ_SECONDS
    try:
        client.assign([TopicPartition(place.topic, place.partition, place.first)])
        while len(messages) <= place.last - place.first:
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(f"{where}: no answer in {READ_SECONDS:g} s")
            record = polled(client, POLL_SECONDS)
            if record is None:
                refusal = events.refusal(where)
                if refusal is not None:
                    raise refusal
                continue
            if (error := record.error()) is not None:
                _check(error, where, events)
                break
            if record.offset() > place.last:
                break
            buffer.add([record])
            messages += buffer.hand_out(trackers, 1, 1).messages
    except KafkaException as exception:
        raise events.explain(error_of(exception), where) from None
    finally:
        client.close()
    if not messages:
        raise MessageNotFoundError(
            f"{where}: there is no record any more at offset {place.first}: the topic's retention "
            "has removed it"
        )
    return messages


def _check(error: KafkaError, where: str, events: ClientEvents) -> None:
    """Raise what keeps a record from being read; the end of the partition, or of time, does not."""
    if error.code() in REFUSED:
        raise MessageNotFoundError(
            f"{where}: the record cannot be read: {meaning_of(error)}: raise "
            "receive.message.max.bytes in kafka_config.ini [consumer] if it is only too large"
        )
    passed = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)
    if error.code() not in (*passed, KafkaError.OFFSET_OUT_OF_RANGE):
        raise events.explain(error, where)

"""Batches that the client refuses to unpack: where each of them ends.

Kafka keeps records in batches, compressed as one, and the client tells of a batch that is damaged,
or unpacks beyond `receive.message.max.bytes`, only where it begins. It asks for it again and again
until its position is moved behind the batch. Where that is, the cluster tells nobody: it is found
by asking for offsets further on, which brings the same refusal as long as they are in the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.kafka.assignment import KafkaDelivery, PartitionTracker
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.errors import error_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.records import polled
from MessageBroker.kafka.settings import KafkaSettings

# What the client, or the broker, says of a batch that it cannot read. With _NOT_IMPLEMENTED it
# takes the middle of a damaged batch for the beginning of another.
REFUSED = frozenset(
    {
        KafkaError._BAD_MSG,
        KafkaError._BAD_COMPRESSION,
        KafkaError._NOT_IMPLEMENTED,
        KafkaError._UNDERFLOW,
        KafkaError.INVALID_MSG,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)
# The answer to one question (s): on a busy machine one of 8 MiB takes a while.
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.2

_PROBING = {
    "enable.auto.commit": "false",
    # A record that will never be committed is an answer, too; the end is one.
    "isolation.level": "read_uncommitted",
    # One batch at a time: whatever comes with it would be unpacked in vain.
    "fetch.message.max.bytes": "1",
    "queued.min.messages": "1",
    # From one question to the next a request may be under way at the end of the partition (ms).
    "fetch.wait.max.ms": "10",
}


@dataclass(frozen=True)
class Span:
    """The first and the last offset of a batch."""

    first: int
    last: int


class RefusedBatch(KafkaDelivery):
    """A delivery that stands for a whole batch."""

    __slots__ = ("last",)

    def __init__(self, tracker: PartitionTracker, span: Span) -> None:
        """Begin.

        Args:
            tracker: of its partition.
            span: the batch.
        """
        super().__init__(tracker, span.first, 0)
        self.last = span.last

    @property
    def next_offset(self) -> int:
        """See `KafkaDelivery.next_offset`."""
        return self.last + 1

    @property
    def offsets(self) -> str:
        """See `KafkaDelivery.offsets`."""
        return str(self.offset) if self.last == self.offset else f"{self.offset}-{self.last}"


# Of a partition, the offset that the client said of a refused batch, and the group's position.
FindSpan = Callable[[int, int, int], Span]


def span_finder(settings: KafkaSettings, consumed: GroupTopic) -> FindSpan:
    """Return what finds the offsets of a refused batch.

    Args:
        settings: the clients' properties.
        consumed: the topic, and the group that was refused.
    """

    def find(partition: int, said: int, position: int) -> Span:
        # Its own events: what it meets is not the consumer's.
        events = ClientEvents(settings, consumed.rights)
        client = events.open(Consumer, {**settings.for_consumer(consumed.group), **_PROBING})
        try:
            return _Probe(client, consumed, partition, said).span(position)
        except KafkaException as exception:
            raise events.explain(error_of(exception), consumed.where) from None
        finally:
            client.close()

    return find


class _Probe:
    """Asks for offsets, one after the other."""

    def __init__(self, client: Consumer, consumed: GroupTopic, partition: int, said: int) -> None:
        """Prepare.

        Args:
            client: a consumer that is a member of nothing.
            consumed: the topic.
            partition: where the batch is.
            said: the offset that the client says of it, which a damaged batch may have made up.
        """
        self._client = client
        self._topic, self._where = consumed.topic, consumed.where
        self._partition = partition
        self._said = said

    def span(self, position: int) -> Span:
        """Find the first and the last offset of the batch from `position` on."""
        topic_partition = TopicPartition(self._topic, self._partition)
        _, end = self._client.get_watermark_offsets(topic_partition, timeout=ANSWER_SECONDS)
        start = self._said if position <= self._said < end else position
        inside, behind, step = start, start + 1, 1
        while behind < end and self._is_inside(behind):
            inside, step = behind, step * 2
            behind = min(start + step, end)
        while behind - inside > 1:
            middle = (inside + behind) // 2
            if self._is_inside(middle):
                inside = middle
            else:
                behind = middle
        return Span(start, inside)

    def _is_inside(self, offset: int) -> bool:
        """Tell whether `offset` belongs to the same batch: then the client says the same of it."""
        self._client.assign([TopicPartition(self._topic, self._partition, offset)])
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            record = polled(self._client, POLL_SECONDS)
            if record is None or record.partition() != self._partition:
                continue
            error = record.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return False
            if error.code() in REFUSED:
                return record.offset() == self._said
        raise BrokerUnavailableError(
            f"{self._where}: no answer for offset {offset} of partition {self._partition} in "
            f"{ANSWER_SECONDS:g} s"
        )

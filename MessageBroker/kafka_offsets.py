"""How far a partition is acknowledged.

Kafka keeps one number for a consumer group and partition: the offset from which to go on. So only
what is acknowledged without a gap from the start may move it; an acknowledgement further on waits
until all before it are there. What was delivered beyond the number comes again after a crash, and
nothing is ever skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from MessageBroker.kafka_records import time_of
from MessageBroker.message import Delivery


class PartitionTracker:
    """The deliveries of one partition during one assignment to this consumer.

    Each assignment has a tracker of its own: an acknowledgement that comes after the partition
    went away, and perhaps came back, reaches a tracker that is no longer used.

    The caller holds a lock.
    """

    __slots__ = ("_next", "_unacknowledged", "partition", "revoked", "stored")

    def __init__(self, partition: int, start: int) -> None:
        """Begin at offset `start`: everything below is acknowledged."""
        self.partition = partition
        self.revoked = False
        self.stored = start  # what the client was last told; the caller's to set
        self._next = start
        # In the order of the partition: what is acknowledged leaves no trace, so that one message
        # that waits for long costs no memory for all that flow past it.
        self._unacknowledged: dict[KafkaDelivery, None] = {}

    @property
    def next_offset(self) -> int:
        """The least offset that may be delivered next."""
        return self._next

    @property
    def position(self) -> int:
        """The offset to commit: all that was delivered below it is acknowledged."""
        first = next(iter(self._unacknowledged), None)
        return self._next if first is None else first.offset

    def deliver(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """Take note of deliveries, in the order of the partition.

        Offsets rise, not always by one: compaction and transactions leave gaps.
        """
        self._unacknowledged.update(dict.fromkeys(deliveries))
        self._next = deliveries[-1].offset + 1

    def acknowledge(self, deliveries: Iterable[KafkaDelivery]) -> None:
        """Take note of acknowledgements; a second one changes nothing."""
        unacknowledged = self._unacknowledged
        for delivery in deliveries:
            unacknowledged.pop(delivery, None)

    def unacknowledged(self) -> list[KafkaDelivery]:
        """List what was delivered and not acknowledged, in the order of the partition."""
        return list(self._unacknowledged)


class KafkaDelivery(Delivery):
    """One delivery of a record. It knows its place itself: a handle would be one object more."""

    __slots__ = ("offset", "timestamp", "tracker")

    tracker: PartitionTracker
    offset: int
    timestamp: int  # ms

    @property
    def id(self) -> str:
        """The message's id."""
        return f"{self.tracker.partition}-{self.offset}-{self.timestamp}"

    @property
    def publish_time(self) -> datetime:
        """When the broker, or the producer, says that the record was made."""
        return time_of(self.timestamp)

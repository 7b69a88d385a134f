"""How far a partition is acknowledged.

Kafka keeps one number for a consumer group and partition: the offset from which to go on. So only
what is acknowledged without a gap from the start may move it; an acknowledgement further on waits
until all before it are there. What was delivered beyond the number comes again after a crash, and
nothing is ever skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from MessageBroker.message import Delivery, DeliveryState

DONE = DeliveryState.DONE


# So many settled deliveries may stand behind one that is not before they are looked through.
MIN_COMPACTED = 1000


class PartitionTracker:
    """The deliveries of one partition during one assignment to this consumer.

    Each assignment has a tracker of its own: an acknowledgement that comes after the partition
    went away, and perhaps came back, reaches a tracker that is no longer used.

    What is acknowledged is what the core has marked as done: nothing else is to be noted for each
    message. The caller holds a lock.
    """

    __slots__ = ("_compact_at", "_delivered", "_next", "partition", "revoked", "stored")

    def __init__(self, partition: int, start: int) -> None:
        """Begin at offset `start`: everything below is acknowledged."""
        self.partition = partition
        self.revoked = False
        self.stored = start  # what the client was last told; the caller's to set
        self._next = start
        self._delivered: deque[KafkaDelivery] = deque()  # in the order of the partition
        self._compact_at = MIN_COMPACTED

    @property
    def next_offset(self) -> int:
        """The least offset that may be delivered next."""
        return self._next

    @property
    def position(self) -> int:
        """The offset to commit: all that was delivered below it is acknowledged."""
        delivered = self._delivered
        while delivered and delivered[0].state is DONE:
            delivered.popleft()
        return delivered[0].offset if delivered else self._next

    def deliver(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """Take note of deliveries, in the order of the partition.

        Offsets rise, not always by one: compaction and transactions leave gaps.
        """
        if len(self._delivered) >= self._compact_at:
            # One message that waits for long costs no memory for all that flow past it.
            self._delivered = deque(self.unacknowledged())
            self._compact_at = max(MIN_COMPACTED, 2 * len(self._delivered))
        self._delivered.extend(deliveries)
        self._next = deliveries[-1].offset + 1

    def unacknowledged(self) -> list[KafkaDelivery]:
        """List what was delivered and not acknowledged, in the order of the partition."""
        return [each for each in self._delivered if each.state is not DONE]


class KafkaDelivery(Delivery):
    """One delivery of a record: its handle is the tracker of its partition."""

    __slots__ = ("offset",)

    handle: PartitionTracker

    def __init__(self, tracker: PartitionTracker, offset: int, size: int) -> None:
        """Begin in the hands of the application.

        Args:
            tracker: of its partition.
            offset: its own, in the partition.
            size: bytes of data.
        """
        super().__init__(tracker, size)
        self.offset = offset

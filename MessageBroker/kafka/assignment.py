"""The partitions that one consumer has, and how far each of them is acknowledged.

Kafka keeps one number for a consumer group and partition, the committed offset: from there the
group goes on. So only what is acknowledged without a gap from the start may move it; an
acknowledgement further on waits until all before it are there. What was handed out beyond the
number comes again after a crash, and nothing is ever skipped.

Applications acknowledge from any thread, and another one talks to the client: here they meet. The
lock is held for moments only, and nobody else is called under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

from MessageBroker.message import Delivery, DeliveryState

DONE = DeliveryState.DONE

# So many settled deliveries may stand behind one that is not before they are looked through.
MIN_COMPACTED = 1000


class PartitionTracker:
    """The deliveries of one partition during one assignment to this consumer.

    Each assignment has a tracker of its own: an acknowledgement that comes after the partition
    went away, and perhaps came back, reaches a tracker that is no longer used.

    What is acknowledged is what the core has marked as done: nothing else is to be noted for each
    message. The caller holds a lock. At any time `stored_offset <= offset_to_commit <= position`.

    Attributes:
        partition: its number.
        revoked: the partition went away.
        stored_offset: the offset to commit that the client was last told; the caller's to set.
        position: the offset of the next record that may be handed out.
        at_end: nothing stood behind what was handed out, when that was looked at last.
    """

    __slots__ = (
        "_compact_at",
        "_delivered",
        "at_end",
        "partition",
        "position",
        "revoked",
        "stored_offset",
    )

    def __init__(self, partition: int, start: int) -> None:
        """Begin at offset `start`: everything below is acknowledged."""
        self.partition = partition
        self.revoked = False
        self.stored_offset = start
        self.position = start
        self.at_end = False
        self._delivered: deque[KafkaDelivery] = deque()  # in the order of the partition
        self._compact_at = MIN_COMPACTED

    @property
    def offset_to_commit(self) -> int:
        """All that was handed out below it is acknowledged."""
        delivered = self._delivered
        while delivered and delivered[0].state is DONE:
            delivered.popleft()
        offset = delivered[0].offset if delivered else self.position
        assert self.stored_offset <= offset <= self.position, "no ack goes back, or beyond its end"
        return offset

    def deliver(self, deliveries: Sequence[KafkaDelivery]) -> None:
        """Take note of deliveries, see `TrackedBatch`."""
        if deliveries[0].offset < self.position:
            self._go_back(deliveries[0].offset)
        if len(self._delivered) >= self._compact_at:
            # One message that waits for long costs no memory for all that flow past it.
            self._delivered = deque(self.unacknowledged())
            self._compact_at = max(MIN_COMPACTED, 2 * len(self._delivered))
        self.at_end = False
        self._delivered.extend(deliveries)
        self.position = deliveries[-1].next_offset

    def reach(self, offset: int) -> None:
        """All below `offset` was handed out, or will never be: markers, and what was aborted."""
        self.position = max(self.position, offset)
        self.at_end = True

    def _go_back(self, offset: int) -> None:
        """Follow the client, whose position was out of range: see `auto.offset.reset`.

        What was handed out from there on comes again, and only what comes now counts.
        """
        self._delivered.clear()
        self.stored_offset = self.position = offset

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
        # Not by `super().__init__`: one is made for each record, and the call is a third of it.
        self.handle = tracker
        self.size = size
        self.state = DeliveryState.OUT
        self.offset = offset

    @property
    def next_offset(self) -> int:
        """The offset behind it."""
        return self.offset + 1

    @property
    def offsets(self) -> str:
        """Its offset, or those of what it stands for, as they stand in a place."""
        return str(self.offset)


# What was handed out of one partition: offsets rise, not always by one, as compaction and
# transactions leave gaps.
TrackedBatch = tuple[PartitionTracker, list[KafkaDelivery]]


class Assignment:
    """The trackers of the partitions that are assigned now."""

    def __init__(self, on_lost: Callable[[list[Delivery]], None]) -> None:
        """Begin with none.

        Args:
            on_lost: told of what was handed out and not acknowledged when a partition goes.
        """
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._trackers: dict[int, PartitionTracker] = {}
        self._moved: set[PartitionTracker] = set()  # acknowledged further than the client was told

    def __len__(self) -> int:
        return len(self._trackers)

    def __iter__(self) -> Iterator[int]:
        """Go through the numbers of the partitions."""
        with self._lock:
            return iter(list(self._trackers))

    @property
    def trackers(self) -> Mapping[int, PartitionTracker]:
        """The trackers by partition."""
        return self._trackers

    def begin(self, starts: Mapping[int, int]) -> None:
        """Take over partitions at these offsets."""
        with self._lock:
            for partition, offset in starts.items():
                self._trackers[partition] = PartitionTracker(partition, offset)

    def lose(self, partitions: Collection[int]) -> None:
        """Give up partitions; what is not acknowledged of them is lost."""
        lost: list[Delivery] = []
        with self._lock:
            for partition in partitions:
                tracker = self._trackers.pop(partition, None)
                if tracker is not None:
                    tracker.revoked = True
                    lost += tracker.unacknowledged()
        if lost:
            self._on_lost(lost)

    def positions(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the positions in those of `partitions` that are assigned."""
        with self._lock:
            return {
                partition: tracker.position
                for partition, tracker in self._trackers.items()
                if partition in partitions
            }

    def stored_offsets(self) -> dict[int, int]:
        """Return the offsets to commit that the client was last told."""
        with self._lock:
            return {partition: each.stored_offset for partition, each in self._trackers.items()}

    # ------------------------------------------------------------------ deliveries

    def deliver(self, batches: Iterable[TrackedBatch]) -> None:
        """Take note of what is handed out."""
        with self._lock:
            for tracker, deliveries in batches:
                if tracker.revoked:  # by the thread that noticed a stop, just now
                    for delivery in deliveries:
                        delivery.state = DeliveryState.LOST
                else:
                    tracker.deliver(deliveries)

    def reach(self, ends: Mapping[int, int]) -> None:
        """Take note of partitions that were read to their end."""
        with self._lock:
            for partition, offset in ends.items():
                tracker = self._trackers.get(partition)
                if tracker is not None:
                    tracker.reach(offset)
                    if tracker.offset_to_commit != tracker.stored_offset:
                        self._moved.add(tracker)

    def is_at_end(self, partitions: Collection[int]) -> bool:
        """Tell whether all of `partitions` are assigned, and were read to their ends."""
        with self._lock:
            trackers = self._trackers
            return all(each in trackers and trackers[each].at_end for each in partitions)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """Take note of acknowledgements; return how many were of partitions that are gone."""
        trackers = [each.handle for each in cast("Sequence[KafkaDelivery]", deliveries)]
        touched = set(trackers)
        with self._lock:
            gone = {each for each in touched if each.revoked}
            self._moved.update(
                each for each in touched - gone if each.offset_to_commit != each.stored_offset
            )
        return sum(each in gone for each in trackers) if gone else 0

    def take_moved(self) -> dict[PartitionTracker, int]:
        """Return the offsets to commit that the client does not know yet."""
        with self._lock:
            moved = {each: each.offset_to_commit for each in self._moved if not each.revoked}
            self._moved.clear()
        return moved

    def put_back(self, moved: Collection[PartitionTracker]) -> None:
        """Keep offsets of which the client could not be told, for the next time."""
        with self._lock:
            self._moved.update(moved)

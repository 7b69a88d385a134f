"""The partitions that one consumer has, and how far each of them is acknowledged.

Applications acknowledge from any thread, and another one talks to the client: here they meet. The
lock is held for moments only, and nobody else is called under it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

from MessageBroker.kafka.buffer import TrackedBatch
from MessageBroker.kafka.offsets import KafkaDelivery, PartitionTracker
from MessageBroker.message import Delivery, DeliveryState


class Assignment:
    """The trackers of the partitions that are assigned now."""

    def __init__(self) -> None:
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

    def lose(self, partitions: Collection[int]) -> list[Delivery]:
        """Give up partitions; return what was delivered of them and not acknowledged."""
        lost: list[Delivery] = []
        with self._lock:
            for partition in partitions:
                tracker = self._trackers.pop(partition, None)
                if tracker is not None:
                    tracker.revoked = True
                    lost += tracker.unacknowledged()
        return lost

    def next_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the least offset that may be delivered next, for those that are assigned."""
        with self._lock:
            return {
                partition: tracker.next_offset
                for partition, tracker in self._trackers.items()
                if partition in partitions
            }

    def stored(self) -> dict[int, int]:
        """Return the positions that the client was last told."""
        with self._lock:
            return {partition: each.stored for partition, each in self._trackers.items()}

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

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """Take note of acknowledgements; return how many were of partitions that are gone."""
        trackers = [each.handle for each in cast("Sequence[KafkaDelivery]", deliveries)]
        touched = set(trackers)
        with self._lock:
            gone = {each for each in touched if each.revoked}
            self._moved.update(each for each in touched - gone if each.position != each.stored)
        return sum(each in gone for each in trackers) if gone else 0

    def take_moved(self) -> dict[PartitionTracker, int]:
        """Return the positions that the client does not know yet."""
        with self._lock:
            moved = {each: each.position for each in self._moved if not each.revoked}
            self._moved.clear()
        return moved

    def put_back(self, moved: Collection[PartitionTracker]) -> None:
        """The client could not be told: keep them for the next time."""
        with self._lock:
            self._moved.update(moved)

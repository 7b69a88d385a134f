"""Records between the client and the application: taken, and not handed out as messages yet.

While an application works, serving the group brings records that nobody has asked for; and of what
is taken at once, a limit of bytes may let only some through. Both wait here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import accumulate, groupby, islice
from operator import methodcaller
from typing import Any

from confluent_kafka import Consumer, KafkaError

from MessageBroker.kafka_offsets import KafkaDelivery, Tracker, deliveries_of
from MessageBroker.kafka_records import messages_of
from MessageBroker.limits import MAX_MESSAGE_BYTES
from MessageBroker.message import Message

# What was handed out of one partition: offsets and deliveries, in its order.
TrackedBatch = tuple[Tracker, list[int], list[KafkaDelivery]]

_PARTITION = methodcaller("partition")


class RecordBuffer:
    """The records of one consumer. For one thread at a time."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._records: deque[Any] = deque()
        self._largest = MAX_MESSAGE_BYTES  # of the records that came last
        self._has_enough = False  # there is more than the byte limit let through

    def __len__(self) -> int:
        return len(self._records)

    def room_for(self, max_messages: int) -> int:
        """Tell how many records to take for the next `max_messages`.

        What waits here already is not all that is there. But beyond the byte limit hardly more is
        taken: the group must be served, and memory stay bounded.
        """
        return 1 if self._has_enough else max(0, max_messages - len(self._records))

    def take(self, client: Consumer, limit: int, max_bytes: int) -> list[Any]:
        """Take what the client has: as much as stays within `max_bytes` or hardly exceeds it.

        Sizes are known afterwards only. So the largest of the last ones is reckoned with.
        """
        records: list[Any] = []
        while limit > 0 and max_bytes > 0:
            step = max(1, min(limit, max_bytes // self._largest))
            taken = client.consume(step, 0)
            records += taken
            if len(taken) < step:
                break
            self._largest = max(1, *map(len, taken))
            limit -= step
            max_bytes -= step * self._largest
        return records

    def add(self, records: Iterable[Any]) -> None:
        """Keep what was taken."""
        self._records.extend(records)

    def drop(self, partitions: Collection[int]) -> None:
        """Forget the records of partitions that went to another consumer."""
        self._records = deque(each for each in self._records if each.partition() not in partitions)

    def hand_out(
        self,
        trackers: Mapping[int, Tracker],
        limit: int,
        max_bytes: int,
        *,
        deliver: Callable[[Iterable[TrackedBatch]], None],
        note: Callable[[KafkaError], None],
    ) -> list[Message]:
        """Make messages of records.

        Args:
            trackers: by partition; records of others are dropped.
            limit: the most messages.
            max_bytes: no more than these and one message.
            deliver: takes note of what is handed out.
            note: takes errors that came in place of messages.
        """
        chosen, self._has_enough = self._choose(limit, max_bytes)
        messages: list[Message] = []
        batches: list[TrackedBatch] = []
        for partition, run in groupby(self._without_errors(chosen, note), _PARTITION):
            tracker = trackers.get(partition)
            if tracker is None:
                continue
            records = list(run)
            offsets = [record.offset() for record in records]
            deliveries = deliveries_of(tracker, offsets, map(len, records))
            messages += messages_of(records, self._topic, deliveries)
            batches.append((tracker, offsets, deliveries))
        deliver(batches)
        # Only now: what an error kept from a tracker must not be passed over by a later ack.
        for _ in chosen:
            self._records.popleft()
        return messages

    def _choose(self, limit: int, max_bytes: int) -> tuple[list[Any], bool]:
        """Return the first records within the limits, and whether the bytes are what limits."""
        chosen = list(islice(self._records, limit))
        sizes = list(map(len, chosen))
        if sum(sizes) < max_bytes:
            return chosen, False
        enough = 1 + bisect_left(list(accumulate(sizes)), max_bytes)
        return chosen[:enough], enough < len(self._records)

    @staticmethod
    def _without_errors(records: list[Any], note: Callable[[KafkaError], None]) -> list[Any]:
        errors = [error for record in records if (error := record.error()) is not None]
        if not errors:
            return records
        for error in errors:
            note(error)
        return [record for record in records if record.error() is None]

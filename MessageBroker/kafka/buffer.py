"""Records between the client and the application: taken, and not handed out as messages yet.

While an application works, serving the group brings records that nobody has asked for; and of what
is taken at once, a limit of bytes may let only some through. Both wait here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import methodcaller

from confluent_kafka import Consumer, KafkaError

from MessageBroker.kafka.assignment import KafkaDelivery, PartitionTracker, TrackedBatch
from MessageBroker.kafka.records import (
    UNREADABLE,
    Headers,
    KafkaRecord,
    attributes_of,
    consumed,
    id_of,
    key_of,
    time_of,
)
from MessageBroker.kafka.refused import REFUSED
from MessageBroker.limits import MAX_MESSAGE_BYTES
from MessageBroker.message import Message, received

# Over a name that is no text the client's method sets an error and returns a list with holes. The
# interpreter's quick way of calling a method takes the list, and dies of the holes (SIGSEGV); this
# way of calling looks at the error. A second call would return the list again.
headers_of_record: Callable[[KafkaRecord], Headers] = methodcaller("headers")


@dataclass(frozen=True)
class HandedOut:
    """What a buffer gave.

    Attributes:
        messages: for the application.
        batches: their deliveries, by tracker.
        ends: of partitions that were read to their end, the offset where the next record will be.
        failed: the record, if any, that brought an error in the place of a message.
    """

    messages: list[Message]
    batches: list[TrackedBatch]
    ends: Mapping[int, int]
    failed: KafkaRecord | None


class RecordBuffer:
    """The records of one consumer. For one thread at a time."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._records: deque[KafkaRecord] = deque()
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

    def take(self, client: Consumer, limit: int, max_bytes: int) -> list[KafkaRecord]:
        """Take what the client has: as much as stays within `max_bytes` or hardly exceeds it.

        Sizes are known afterwards only. So the largest of the last ones is reckoned with.
        """
        records: list[KafkaRecord] = []
        while limit > 0 and max_bytes > 0:
            step = max(1, min(limit, max_bytes // self._largest))
            taken = consumed(client, step)
            records += taken
            if len(taken) < step:
                break
            self._largest = max(map(len, taken)) or 1
            limit -= step
            max_bytes -= step * self._largest
        return records

    def add(self, records: Iterable[KafkaRecord]) -> None:
        """Keep what was taken."""
        self._records.extend(records)

    def take_errors(self) -> list[KafkaError]:
        """Take out what came in the place of messages, but for what is to be seen to in its turn.

        For while nobody asks for messages.
        """
        errors = [error for each in self._records if (error := _error_of(each)) is not None]
        if errors:
            self._records = deque(each for each in self._records if _error_of(each) is None)
        return errors

    def drop(self, partitions: Collection[int]) -> None:
        """Forget the records of partitions that went to another consumer."""
        self._records = deque(each for each in self._records if each.partition() not in partitions)

    def hand_out(  # noqa: C901 - a call for each record would cost more than all the rest
        self, trackers: Mapping[int, PartitionTracker], limit: int, max_bytes: int
    ) -> HandedOut:
        """Make messages of records. This loop is what consuming costs: it calls what it must.

        Args:
            trackers: by partition; records of others are dropped.
            limit: the most messages.
            max_bytes: no more than these and one message.

        Returns:
            What comes next. Nothing behind an error is handed out before that is seen to.
        """
        messages: list[Message] = []
        batches: list[TrackedBatch] = []
        failed = None
        ends: dict[int, int] = {}
        topic, partition, next_offset, tracker = self._topic, -1, 0, None
        timestamp, publish_time = 0, time_of(0)  # many records of one batch share theirs
        taken = size = 0
        for record in self._records:
            if len(messages) == limit or size >= max_bytes:
                break
            taken += 1
            if (error := record.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    ends[record.partition()] = record.offset()
                    continue
                failed = record
                break
            offset = record.offset()
            if record.partition() != partition or offset < next_offset:
                partition = record.partition()
                tracker = trackers.get(partition)
                deliveries: list[KafkaDelivery] = []
                if tracker is not None:
                    batches.append((tracker, deliveries))
            if tracker is None:
                continue
            next_offset = offset + 1
            data, made = record.value() or b"", record.timestamp()[1]
            size += len(data)
            if made != timestamp:
                timestamp, publish_time = made, time_of(made)
            delivery = KafkaDelivery(tracker, offset, len(data))
            deliveries.append(delivery)
            headers, raw_key = UNREADABLE, record.key()
            try:
                headers = headers_of_record(record)
                attributes = {}
                for name, value in headers or ():
                    attributes[name] = value.decode()  # type: ignore[union-attr]
                key = raw_key.decode() if raw_key else None
            except Exception:  # noqa: BLE001 - see `headers_of_record`
                attributes, key = attributes_of(headers), key_of(raw_key)
            messages.append(
                received(
                    id_of(partition, offset, timestamp),
                    data,
                    attributes,
                    key,
                    topic,
                    publish_time,
                    delivery,
                )
            )
        self._forget(taken)
        self._has_enough = size >= max_bytes and bool(self._records)
        return HandedOut(messages, batches, ends, failed)

    def _forget(self, count: int) -> None:
        if count == len(self._records):
            self._records.clear()
        else:
            for _ in range(count):
                self._records.popleft()


def _error_of(record: KafkaRecord) -> KafkaError | None:
    """Return the error that a record is, but for one that is to be seen to in its turn."""
    error = record.error()
    in_turn = error is None or error.code() in (*REFUSED, KafkaError._PARTITION_EOF)
    return None if in_turn else error

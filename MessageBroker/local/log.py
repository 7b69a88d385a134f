"""The messages of a topic, in the table `batch`: a row for all that were published together.

One row for a group costs a fraction of a row for each message, and so does reading it: the heads of
all are one JSON text, the bodies stand one after the other. Kafka's record batches do the same.
A row never changes; it is deleted when all its messages are acknowledged.
"""

from __future__ import annotations

import bisect
import itertools
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast

import orjson

from MessageBroker.message import Delivery, Message, received

LOG_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, publish_ms INTEGER NOT NULL,
    keyed INTEGER NOT NULL, heads BLOB NOT NULL, bodies BLOB NOT NULL);
"""

# One that is taken to its end, and the next.
KEPT_BATCHES = 2

# Bodies of so many bytes on average are written and read one by one, in place. As one value they
# are copied three times more on the way in and twice on the way out, each time into new memory:
# publishing, receiving and acknowledging a picture of 150 KB takes 0.42 ms of CPU in place of 0.62.
# Of small ones a call for each costs more.
LARGE_BODY = 32_768

# Those from the one that holds a sequence number on. A batch has no gaps, nor has the log.
_FROM = "first >= coalesce((SELECT max(first) FROM batch WHERE first <= ?1), ?1)"


class NewMessage(NamedTuple):
    """A message to append."""

    id: str
    key: str | None
    attributes: dict[str, str]
    data: bytes


class Outline(NamedTuple):
    """What is known of a batch without reading it: `size` is the bytes of all bodies."""

    first: int
    last: int
    keyed: bool
    size: int


class LoggedBatch:
    """A batch that was read.

    Attributes:
        first: the sequence number of its first message.
        last: that of its last.
        keys: the key of each; None where none has one.
        is_whole: whether it holds the bodies; else they are read in place, while that is open.
    """

    def __init__(
        self, first: int, publish_ms: int, heads: bytes, bodies: bytes | sqlite3.Blob
    ) -> None:
        columns = orjson.loads(heads)
        self.first = first
        self.keys: list[str | None] | None = columns["keys"]
        self._ids: list[str] = columns["ids"]
        self.last = first + len(self._ids) - 1
        self._ends: list[int] = list(itertools.accumulate(columns["sizes"]))
        self._attributes: list[dict[str, str]] = columns["attributes"]
        self._publish_time = datetime.fromtimestamp(publish_ms / 1000, UTC)
        self._bodies = bodies
        self.is_whole = isinstance(bodies, bytes)

    def fitting(self, low: int, room: int, room_bytes: int) -> int:
        """Tell which message from `low` on is the last that there is room for; one always fits.

        Args:
            low: the first.
            room: how many may be taken.
            room_bytes: at how many bytes no more are.
        """
        begin = low - self.first
        full = bisect.bisect_left(self._ends, self._start(begin) + room_bytes)
        return min(low + room - 1, self.first + full, self.last)

    def size(self, low: int, high: int) -> int:
        """Return the bytes of the bodies from `low` to `high`."""
        return self._ends[high - self.first] - self._start(low - self.first)

    def messages(self, topic: str, low: int, high: int) -> list[Message]:
        """Return those of its messages from `low` to `high`, as they are handed out.

        The handle of each is its sequence number.
        """
        low, high = max(low, self.first), min(high, self.last)
        its = slice(low - self.first, high + 1 - self.first)
        attributes: Iterable[dict[str, str]] = self._attributes[its]
        if low > self.first or high < self.last:  # it may be kept, and hand one out again
            attributes = map(dict, attributes)
        keys = self.keys[its] if self.keys else itertools.repeat(None)
        ends = self._ends[its]
        starts = [self._start(its.start), *ends[:-1]]
        # Both give bytes for a slice; of a blob the types tell no more than "bytes or a number".
        bodies, publish_time = cast(bytes, self._bodies), self._publish_time
        return [
            received(
                message_id,
                bodies[start:end],
                its_attributes,
                key,
                topic,
                publish_time,
                Delivery(seq, end - start),
            )
            for seq, message_id, its_attributes, key, start, end in zip(
                range(low, high + 1), self._ids[its], attributes, keys, starts, ends, strict=False
            )
        ]

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0


class Log:
    """The batches of one topic, by one connection. Used inside a transaction.

    The last batches that were read in parts are kept: those who take a few messages at a time would
    read them again for each few.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._kept: deque[LoggedBatch] = deque(maxlen=KEPT_BATCHES)

    @staticmethod
    def append(
        db: sqlite3.Connection, first: int, publish_ms: int, messages: Sequence[NewMessage]
    ) -> None:
        """Append messages as one batch that begins with the sequence number `first`."""
        keyed = any(each.key is not None for each in messages)
        sizes = [len(each.data) for each in messages]
        heads = {
            "ids": [each.id for each in messages],
            "keys": [each.key for each in messages] if keyed else None,
            "sizes": sizes,
            "attributes": [each.attributes for each in messages],
        }
        last, size = first + len(messages) - 1, sum(sizes)
        row = (first, last, publish_ms, keyed, _json(heads))
        if size < LARGE_BODY * len(messages):
            bodies = b"".join([each.data for each in messages])
            db.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", (*row, bodies))
            return
        db.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, zeroblob(?))", (*row, size))
        with db.blobopen("batch", "bodies", first) as place:
            for each in messages:
                place.write(each.data)

    @staticmethod
    def outlines(db: sqlite3.Connection, start: int) -> Iterator[Outline]:
        """Yield the batches from the one on that holds `start`."""
        rows = db.execute(
            "SELECT first, last, keyed, length(bodies) FROM batch "  # noqa: S608
            f"WHERE {_FROM} ORDER BY first",
            (start,),
        )
        try:
            yield from itertools.starmap(Outline, rows)
        finally:
            rows.close()

    def batch(self, db: sqlite3.Connection, first: int) -> LoggedBatch:
        """Read the batch that begins with `first`, and keep it."""
        for kept in self._kept:
            if kept.first == first:
                return kept
        (batch,) = self._read(db, first, first)
        self._keep(batch)
        return batch

    def messages(self, db: sqlite3.Connection, low: int, high: int) -> list[Message]:
        """Return the messages from `low` to `high` that are still there."""
        found: list[Message] = []
        for kept in sorted(self._kept, key=lambda batch: batch.first):
            if kept.first <= low <= min(kept.last, high):
                found += kept.messages(self._topic, low, high)
                low = kept.last + 1
                if low <= high + 1:
                    self._kept.remove(kept)
        for batch in self._read(db, low, high) if low <= high else ():
            found += batch.messages(self._topic, low, high)
            if high < batch.last:
                self._keep(batch)
        return found

    def _keep(self, batch: LoggedBatch) -> None:
        """Spare the next few reading all bodies again; those in place are not read beforehand."""
        if batch.is_whole:
            self._kept.append(batch)

    @staticmethod
    def delete_before(db: sqlite3.Connection, seq: int) -> None:
        """Delete the batches that end before `seq`."""
        db.execute("DELETE FROM batch WHERE first < ?1 AND last < ?1", (seq,))

    @staticmethod
    def _read(db: sqlite3.Connection, low: int, high: int) -> Iterator[LoggedBatch]:
        """Yield batches; what is read in place can be until the next one is asked for."""
        rows = db.execute(
            "SELECT first, publish_ms, heads, CASE WHEN length(bodies) < "  # noqa: S608
            f"?3 * (last - first + 1) THEN bodies END FROM batch WHERE {_FROM} "
            "AND first <= ?2 AND last >= ?1 ORDER BY first",
            (low, high, LARGE_BODY),
        )
        try:  # the open statement keeps the row, whoever deletes it meanwhile
            for first, publish_ms, heads, bodies in rows:
                if bodies is not None:
                    yield LoggedBatch(first, publish_ms, heads, bodies)
                    continue
                with db.blobopen("batch", "bodies", first, readonly=True) as place:
                    yield LoggedBatch(first, publish_ms, heads, place)
        finally:
            rows.close()


def _json(heads: object) -> bytes:
    try:
        return orjson.dumps(heads)
    except TypeError:  # a name of a class that is derived from `str`; it takes longer to look
        return orjson.dumps(heads, option=orjson.OPT_NON_STR_KEYS)

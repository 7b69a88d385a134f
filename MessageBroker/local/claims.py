"""Who holds which messages of a topic: taking claims, and splitting them.

The tables and their meaning are described in `MessageBroker.local.store`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from MessageBroker.local.log import Log

# How far to look past messages whose key another consumer holds.
MAX_FREE_CLAIMS = 10_000

# How far all was given out, and whether there is anything of what the next statement tells.
_STATE = """
SELECT next_seq, EXISTS (
    SELECT 1 FROM claim WHERE subscription = ?1
    AND (consumer IS NULL OR (key IS NOT NULL AND consumer != ?2)))
FROM subscription WHERE id = ?1
"""
# What is free, oldest first, and the keys that other consumers hold.
_FREE_AND_BLOCKED = """
SELECT first, last, key FROM claim WHERE subscription = ?1 AND consumer IS NULL
UNION ALL
SELECT DISTINCT NULL, NULL, key FROM claim WHERE subscription = ?1 AND key IS NOT NULL
    AND consumer IS NOT NULL AND consumer != ?2
ORDER BY first
"""


class Claims:
    """What one consumer takes at once, within its room. Used inside a transaction.

    Attributes:
        size: the bytes of what was taken.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        log: Log,
        subscription: str,
        consumer: str,
        room: int,
        room_bytes: int,
    ) -> None:
        """Look what there is to take; nothing is taken yet.

        Args:
            db: the connection whose transaction this is.
            log: the topic's messages.
            subscription: an existing one.
            consumer: who takes them.
            room: the most messages.
            room_bytes: at how many bytes of data no more are taken.
        """
        self._db = db
        self._log = log
        self._subscription = subscription
        self._consumer = consumer
        self._room = room
        self._room_bytes = room_bytes
        self._ranges: list[tuple[int, int]] = []
        self.size = 0
        # As few statements as there may be: who takes a single message waits for each.
        self._next_seq, others = db.execute(_STATE, (subscription, consumer)).fetchone()
        rows = db.execute(_FREE_AND_BLOCKED, (subscription, consumer)).fetchall() if others else ()
        self._free = [(first, last, key) for first, last, key in rows if first is not None]
        self._blocked = {key for first, _, key in rows if first is None}
        self._left_free = len(self._free)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the claimed sequence numbers, as ranges."""
        return self._ranges

    def take_free(self) -> None:
        """Take what was given out before and is free again, oldest first."""
        for first, last, key in self._free:
            if not self._has_room():
                return
            if key not in self._blocked:
                self._take_range(first, last)

    def take_new(self) -> None:
        """Take what was never given out, passing over keys that others hold."""
        before = next_seq = self._next_seq
        passed_over = self._left_free
        new: list[tuple[int, int, str | None, str | None]] = []
        for first, last, key, size in self._spans(next_seq):
            if not self._has_room() or passed_over >= MAX_FREE_CLAIMS:
                break
            next_seq = last + 1
            if key in self._blocked:
                passed_over += 1
                new.append((first, last, key, None))
                continue
            self._take(first, last, size)
            if key is None and new and new[-1][1] == first - 1 and new[-1][2] is None:
                new[-1] = (new[-1][0], last, None, self._consumer)
            else:
                new.append((first, last, key, self._consumer))
        self._db.executemany(
            "INSERT INTO claim VALUES (?, ?, ?, ?, ?)", ((self._subscription, *row) for row in new)
        )
        if next_seq > before:  # else nothing is written, and nothing is synced
            self._db.execute(
                "UPDATE subscription SET next_seq = ? WHERE id = ?", (next_seq, self._subscription)
            )

    def _take_range(self, first: int, last: int) -> None:
        taken = first - 1
        for low, high, _, size in self._spans(first, last):
            if not self._has_room():
                break
            self._take(low, high, size)
            taken = high
        self._db.execute(
            "UPDATE claim SET consumer = ?, last = ? WHERE subscription = ? AND first = ?",
            (self._consumer, taken, self._subscription, first),
        )
        self._left_free -= taken == last
        if taken < last:  # only ranges without a key can be longer than one
            self._db.execute(
                "INSERT INTO claim VALUES (?, ?, ?, NULL, NULL)",
                (self._subscription, taken + 1, last),
            )

    def _spans(
        self, start: int, end: int | None = None
    ) -> Iterator[tuple[int, int, str | None, int]]:
        """Yield what may be taken at once, from `start` to `end`: first, last, key, bytes.

        That is as much of a batch as there is room for where nothing has a key; else one message.
        """
        for outline in self._log.outlines(self._db, start):
            if end is not None and outline.first > end:
                return
            low = max(outline.first, start)
            high = outline.last if end is None else min(outline.last, end)
            if (
                not outline.keyed
                and (low, high) == (outline.first, outline.last)
                and high - low < self._room
                and outline.size <= self._room_bytes
            ):
                yield low, high, None, outline.size
                continue
            batch = self._log.batch(self._db, outline.first)
            while low <= high:
                last = low
                if batch.keys is None:
                    last = min(high, batch.fitting(low, self._room, self._room_bytes))
                key = batch.keys[low - batch.first] if batch.keys else None
                yield low, last, key, batch.size(low, last)
                low = last + 1

    def _has_room(self) -> bool:
        return self._room > 0 and self._room_bytes > 0

    def _take(self, first: int, last: int, size: int) -> None:
        ranges = self._ranges
        if ranges and ranges[-1][1] == first - 1:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
        self._room -= last - first + 1
        self._room_bytes -= size
        self.size += size


def split_claim(
    db: sqlite3.Connection, subscription: str, consumer: str, first: int, last: int, *, free: bool
) -> int:
    """Take `first` to `last` out of this consumer's claims, or free them; returns how many."""
    claims = db.execute(
        "SELECT first, last, key FROM claim WHERE subscription = ?1 AND consumer = ?2 "
        "AND first BETWEEN coalesce((SELECT max(first) FROM claim WHERE subscription = ?1 "
        "AND first <= ?3), ?3) AND ?4 AND last >= ?3",
        (subscription, consumer, first, last),
    ).fetchall()
    taken = 0
    for claim_first, claim_last, key in claims:
        low, high = max(first, claim_first), min(last, claim_last)
        assert low <= high, "only claims that hold some of them are split"
        taken += high - low + 1
        rest: list[tuple[int, int, str | None]] = [
            (claim_first, low - 1, consumer),
            (high + 1, claim_last, consumer),
        ]
        if free:
            rest.append((low, high, None))
        db.execute(
            "DELETE FROM claim WHERE subscription = ? AND first = ?", (subscription, claim_first)
        )
        db.executemany(
            "INSERT INTO claim VALUES (?, ?, ?, ?, ?)",
            [(subscription, a, b, key, owner) for a, b, owner in rest if a <= b],
        )
    return taken


def runs(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Group sequence numbers into ranges of consecutive ones."""
    ordered = sorted(seqs)
    start = 0
    for i in range(1, len(ordered) + 1):
        assert i == len(ordered) or ordered[i] > ordered[i - 1], "each is held once"
        if i == len(ordered) or ordered[i] != ordered[i - 1] + 1:
            yield ordered[start], ordered[i - 1]
            start = i

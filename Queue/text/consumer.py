"""The consuming end: one active consumer, its cursor, and the removal of what is committed."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from DurableText.lock import FileLock
from DurableText.quarantine import CorruptLine, Quarantine
from DurableText.storage import Storage
from Queue.errors import QueueClosedError, QueueOrderError
from Queue.text.cursor import Cursor, Position
from Queue.text.reader import Reader
from Queue.text.segment import QueuePaths
from Queue.text.tail_watch import MAX_WAIT_SECONDS, TailWatch

logger = logging.getLogger(__name__)

STANDBY_SECONDS = 0.02
"""Pause of a standby consumer between two looks at the lock: how late it takes over."""


@dataclass(frozen=True)
class Batch:
    """What one `take` handed out. False if it is empty.

    Attributes:
        records: the records as they were put, in order.
        corrupt: corrupt lines and gaps found among them; `commit` keeps them in
            `log.quarantine.txt`. Whoever wants to pass them on does so before committing.
        first_seq: the number of the first record; 0 if there is none.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    corrupt: list[CorruptLine] = field(default_factory=list)
    first_seq: int = 0
    ordinal: int = field(default=0, repr=False)
    end: Position | None = field(default=None, repr=False)
    finished: int = field(default=0, repr=False)

    def __bool__(self) -> bool:
        return bool(self.records or self.corrupt)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class _Read:
    """How far a `Consumer` has read: the last batch's number, where it ends, segments finished."""

    ordinal: int
    end: Position | None
    finished: int


class Consumer:
    """The active consumer of a queue. Made by whoever holds the consumers' lock.

    A commit syncs the cursor if the last sync is at least `sync_interval` seconds old.

    `take` is called by one thread at a time, and so is `commit`; both may run at the same time.
    """

    def __init__(
        self, storage: Storage, paths: QueuePaths, watch: TailWatch, sync_interval: float
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._watch = watch
        self._sync_interval = sync_interval
        self._synced_at = -math.inf
        self._mutex = threading.Lock()  # guards the counts, the cursor and reader.finished
        self._closed = False
        self._removal_failed = False  # and it was said
        self._committed = 0
        self._removed = 0
        self._quarantine = Quarantine(paths.quarantine, storage)
        self._cursor = Cursor(paths.cursor, storage)
        if self._cursor.damaged:
            logger.error(
                "%s: neither slot can be read; starting with the oldest record that is there, "
                "so some come again",
                paths.cursor,
            )
        self._reader = Reader(storage, paths, self._cursor.position)  # opens nothing yet
        self._last = _Read(0, self._cursor.position, 0)
        self._unsure = False  # a read was broken off: what it had read was not handed out

    def take(self, max_records: int, deadline: float | None, check: Callable[[], None]) -> Batch:
        """Returns the next batch, empty if there was none until `deadline`.

        `check` is called after each wait and may raise.
        """
        while True:
            self._watch.drain()
            batch = self._read(max_records)
            if batch:
                return batch
            self._remove_when_idle()
            left = MAX_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return batch
            self._watch.wait(left)
            check()

    def commit(self, batch: Batch) -> None:
        """Moves the cursor behind `batch`; on an error it may be called again."""
        with self._mutex:
            if self._closed:
                raise QueueClosedError(f"{self._paths.log}: the queue is closed")
            if batch.end is None or batch.ordinal <= self._committed:
                return
            if batch.ordinal != self._committed + 1:
                raise QueueOrderError(
                    f"{self._paths.log}: batch {batch.ordinal} committed, but batch "
                    f"{self._committed + 1} is next; commit in the order of the takes"
                )
            if batch.corrupt:
                self._quarantine.keep(batch.corrupt)
            now = time.monotonic()
            durable = now - self._synced_at >= self._sync_interval
            self._cursor.write(batch.end, durable)
            if durable:
                self._synced_at = now
            self._committed = batch.ordinal
            self._remove_finished(batch.finished, batch.end)  # raises nothing: the commit is done

    def close(self) -> None:
        """Closes the files, once a commit that is under way has ended; no `take` may be.

        Were the cursor closed under a commit, its slot could go into whatever file gets the
        descriptor next.
        """
        with self._mutex:
            self._closed = True
            try:
                self._reader.close()
            finally:
                self._cursor.close()

    def _read(self, max_records: int) -> Batch:
        if self._unsure:
            self._go_back()
        self._unsure = True  # until this has come to its end, whatever ends it
        records, corrupt = self._reader.read(max_records)
        ordinal = self._last.ordinal + bool(records or corrupt)
        with self._mutex:
            finished = self._removed + len(self._reader.finished)
        end = self._reader.position
        batch = Batch()
        if records or corrupt:
            first_seq = self._reader.first_seq if records else 0
            batch = Batch(records, corrupt, first_seq, ordinal, end, finished)
        self._last = _Read(ordinal, end, finished)
        self._unsure = False
        return batch

    def _go_back(self) -> None:
        """Lets the reader go on behind what it has handed out.

        Recovers from a Ctrl-C in the middle of a read: what the reader had passed by then would be
        skipped, and the next commit would move the cursor past it.
        """
        with self._mutex:
            del self._reader.finished[self._last.finished - self._removed :]
        self._reader.go_back(self._last.end)

    def _remove_when_idle(self) -> None:
        """Removes segments that were found to be at their end after their last commit."""
        with self._mutex:
            if self._cursor.position is not None and self._committed == self._last.ordinal:
                count = self._removed + len(self._reader.finished)
                self._remove_finished(count, self._reader.position)

    def _remove_finished(self, count: int, position: Position) -> None:
        """Removes segments whose records are all committed: the cursor first, in both slots.

        A kill in between leaves files that the next consumer removes; the other order could leave
        a cursor that points into a file that is gone. What cannot be removed now is tried again.
        """
        if count <= self._removed:
            return
        try:
            self._cursor.write_both(position)
            while self._removed < count:
                with contextlib.suppress(FileNotFoundError):
                    self._storage.unlink(self._reader.finished[0])
                del self._reader.finished[0]
                self._removed += 1
        except OSError as error:
            if not self._removal_failed:
                logger.warning(
                    "%s: committed, and cannot be removed yet: %s", self._reader.finished[0], error
                )
            self._removal_failed = True
        else:
            self._removal_failed = False


class ConsumerSlot:
    """Becoming the active consumer, or standing by until that one is gone."""

    def __init__(self, storage: Storage, paths: QueuePaths, sync_interval: float) -> None:
        self.consumer: Consumer | None = None
        self._storage = storage
        self._paths = paths
        self._sync_interval = sync_interval
        self._lock = FileLock(paths.consumer_lock, storage)
        try:
            self._watch = TailWatch(paths.log, storage)
        except BaseException:
            self._lock.close()
            raise

    def acquire(self, deadline: float | None, stop: Callable[[], bool]) -> Consumer | None:
        """Returns the consumer once this is the active one; None at `deadline` or at `stop`."""
        if self.consumer is None and self._lock.acquire(deadline, STANDBY_SECONDS, stop):
            try:
                self.consumer = Consumer(
                    self._storage, self._paths, self._watch, self._sync_interval
                )
            except BaseException:
                self._lock.release()
                raise
        return self.consumer

    def wake(self) -> None:
        """Ends the waiting in `take`."""
        self._watch.wake()

    def close(self) -> None:
        """Lets the next consumer become active."""
        try:
            if self.consumer is not None:
                self.consumer.close()
        finally:
            self._lock.close()
            self._watch.close()

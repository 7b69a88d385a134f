"""The consuming end: one active consumer, its cursor, and the removal of what is committed."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from DurableText.lock import FileLock
from DurableText.quarantine import CorruptLine, Quarantine
from DurableText.storage import Storage
from Queue.errors import QueueClosedError, QueueOrderError
from Queue.queue_interface import QueueBatch
from Queue.text import place
from Queue.text.cursor import Cursor, Position
from Queue.text.reader import Reader
from Queue.text.segment import QueuePaths
from Queue.text.tail_watch import MAX_WAIT_SECONDS, TailWatch

logger = logging.getLogger(__name__)

# Pause of a standby consumer between two looks at the lock: how late it takes over.
STANDBY_SECONDS = 0.02


@dataclass(frozen=True)
class TextBatch(QueueBatch):
    """What one `take` handed out of a text file.

    Attributes:
        corrupt: corrupt lines and gaps; `commit` keeps them in `log.quarantine.txt`.
        first_seq: the number of the first record; 0 if there is none.
        ordinal: which batch it is, from 1.
        end: where the next one begins.
        mark: how the queue shows that it still has the last line.
        done_with: sealed segments that nobody needs any more once it is committed.
    """

    corrupt: Sequence[CorruptLine] = ()
    first_seq: int = 0
    ordinal: int = field(default=0, repr=False)
    end: Position | None = field(default=None, repr=False)
    mark: place.Mark = field(default=place.Mark(), repr=False)
    done_with: tuple[Path, ...] = field(default=(), repr=False)


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
        self._mutex = threading.Lock()  # guards the cursor and all that a commit changes
        self._closed = False
        self._removal_failed = False  # and it was said
        self._committed = 0
        self._done_with: list[Path] = []  # committed, and not removed yet
        self._witness = place.Witness(storage, paths)
        self._quarantine = Quarantine(paths.quarantine, storage)
        self._cursor = Cursor(paths.cursor, storage)
        if self._cursor.damaged:
            logger.error(
                "%s: neither slot can be read; starting with the oldest record that is there, "
                "so some come again",
                paths.cursor,
            )
        self._reader = Reader(storage, paths, self._cursor.position, owns=True)  # opens nothing yet
        self._end = self._cursor.position  # of what was handed out
        self._finished: list[Path] = []  # read to their end; the next batch carries them
        self._taken = 0
        self._unsure = False  # a read was broken off: what it had read was not handed out

    def take(
        self, max_records: int, deadline: float | None, check: Callable[[], None]
    ) -> TextBatch:
        """Return the next batch, empty if there was none until `deadline`.

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

    def commit(self, batch: TextBatch) -> None:
        """Move the cursor behind `batch`; on an error it may be called again."""
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
            if not self._witness.sees(batch.mark):
                raise place.replaced(
                    self._paths.log, f"records up to {batch.end.next_seq - 1} were taken from it"
                )
            if batch.corrupt:
                self._quarantine.keep(batch.corrupt)
            before = self._cursor.position
            assert before is None or before.next_seq <= batch.end.next_seq, (
                "the cursor would go back"
            )
            assert self._end is not None, "nothing was handed out"
            assert batch.end.next_seq <= self._end.next_seq, "committed beyond what was handed out"
            now = time.monotonic()
            durable = now - self._synced_at >= self._sync_interval
            self._cursor.write(batch.end, durable)
            if durable:
                self._synced_at = now
            self._committed = batch.ordinal
            self._done_with += batch.done_with
            self._remove(batch.end)  # raises nothing: the commit is done

    def close(self) -> None:
        """Close the files, once a commit that is under way has ended; no `take` may be.

        Were the cursor closed under a commit, its slot could go into whatever file gets the
        descriptor next.
        """
        with self._mutex:
            self._closed = True
            try:
                self._reader.close()
                self._witness.close()
            finally:
                self._cursor.close()

    def _read(self, max_records: int) -> TextBatch:
        if self._unsure:
            # A Ctrl-C or an error in the middle of a read: what the reader had passed by then would
            # be skipped, and the next commit would move the cursor past it.
            self._reader.go_back(self._end)
        self._unsure = True  # until this has come to its end, whatever ends it
        records, corrupt = self._reader.read(max_records)
        end, first_seq = self._reader.position, self._reader.first_seq if records else 0
        handed_out = self._end.next_seq if self._end else 0
        assert handed_out <= end.next_seq, "the reader went back"
        assert not records or handed_out <= first_seq, "a record would be handed out twice"
        assert first_seq + len(records) <= end.next_seq, "more would be handed out than was read"
        self._finished += self._reader.take_finished()
        self._end = end
        batch = TextBatch()
        if records or corrupt:
            self._taken += 1
            batch = TextBatch(
                records,
                corrupt,
                first_seq,
                self._taken,
                end,
                self._reader.mark,
                tuple(self._finished),
            )
            self._finished.clear()
        self._unsure = False
        return batch

    def _remove_when_idle(self) -> None:
        """Remove segments that were found to be at their end after their last commit."""
        with self._mutex:
            if self._cursor.position is not None and self._committed == self._taken:
                self._done_with += self._finished
                self._finished.clear()
                self._remove(self._reader.position)

    def _remove(self, position: Position) -> None:
        """Remove the segments whose records are all committed: the cursor first, in both slots.

        A kill in between leaves files that the next consumer removes; the other order could leave
        a cursor that points into a file that is gone. What cannot be removed now is tried again.
        """
        if not self._done_with:
            return
        try:
            self._cursor.write_both(position)
            while self._done_with:
                with contextlib.suppress(FileNotFoundError):
                    place.put_away(self._storage, self._done_with[0])
                del self._done_with[0]
        except OSError as error:
            if not self._removal_failed:
                logger.warning(
                    "%s: committed, and cannot be removed yet: %s", self._done_with[0], error
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
        self._lock = FileLock(paths.consumer_lock, storage, paths.log)
        try:
            self._watch = TailWatch(paths.log, storage)
        except BaseException:
            self._lock.close()
            raise

    def acquire(self, deadline: float | None, stop: Callable[[], bool]) -> Consumer | None:
        """Return the consumer once this is the active one; None at `deadline` or at `stop`.

        Raises:
            QueueReplacedError: it was, and somebody has removed its lock.
        """
        if self.consumer is not None and not self._lock.is_in_place():
            raise place.replaced(self._lock.path, "another consumer may be at work by now")
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
        """End the waiting in `take`."""
        self._watch.wake()

    def close(self) -> None:
        """Let the next consumer become active."""
        try:
            if self.consumer is not None:
                self.consumer.close()
        finally:
            self._lock.close()
            self._watch.close()

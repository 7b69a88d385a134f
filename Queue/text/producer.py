"""The producing end: encoding, waiting for the lock and for room, writing groups."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from DurableText.lock import FileLock
from DurableText.storage import NO_ROOM, Storage
from Queue.errors import (
    QueueFullError,
    QueueLockedError,
    QueueUnavailableError,
)
from Queue.queue_interface import Record
from Queue.text import numbered_lines, place
from Queue.text.group_commit import GroupCommit, PendingPut
from Queue.text.segment import QueuePaths
from Queue.text.writer import Writer

logger = logging.getLogger(__name__)

# A segment is at most this part of `max_bytes`: room comes back one segment at a time.
SEGMENTS_WITHIN_MAX = 4

# Longest pause between two tries for the lock, which others hold for about a millisecond.
LOCK_PAUSE_SECONDS = 0.002

# Pause between two looks whether a full queue has room again.
ROOM_PAUSE_SECONDS = 0.01

Fsync = Literal["always", "interval", "never"]


class Producer:
    """Appends records for any number of threads."""

    def __init__(
        self,
        storage: Storage,
        paths: QueuePaths,
        fsync: Fsync,
        segment_bytes: int,
        max_bytes: int,
        interval: float,
        check: Callable[[], None],
    ) -> None:
        """Open the log.

        Args:
            storage: the layer for system calls.
            paths: the queue's files.
            fsync: as in `FileQueue`.
            segment_bytes: as in `FileQueue`.
            max_bytes: as in `FileQueue`.
            interval: seconds between two syncs with `fsync="interval"`.
            check: raises when the queue is closed; called whenever a put has waited.
        """
        self._log = paths.log
        self._fsync = fsync
        self._max_bytes = max_bytes
        self._check = check
        self._closing = threading.Event()
        self._waits_for_room = False
        self._waits_for_lock = False
        segment_bytes = min(segment_bytes, max(1, max_bytes // SEGMENTS_WITHIN_MAX))
        self._writer = Writer(storage, paths, segment_bytes)
        # Held while the writer is used, and not while its user waits: a flush, in the background
        # too, goes on while a put waits for room, or for a process that keeps the producers' lock.
        self._writing = threading.Lock()
        self._lock = FileLock(paths.producer_lock, storage, paths.log)
        self._group = GroupCommit(self._admit, self._write_group, self._lock.release)
        self._flusher: threading.Thread | None = None
        try:
            self._open_log()
        except BaseException:
            self._writer.close()
            self._lock.close()
            raise
        if fsync == "interval":
            self._flusher = threading.Thread(
                target=self._flush_regularly, args=(interval,), name="queue-flush", daemon=True
            )
            self._flusher.start()

    def put(self, records: Sequence[Record], timeout: float | None) -> None:
        """See `FileQueue.put`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        entry = PendingPut(numbered_lines.inner_bytes(records))
        if not entry.bodies:
            return
        if entry.size > self._max_bytes:
            raise QueueFullError(
                f"{self._log}: {len(entry.bodies)} records of {entry.size} bytes can never fit "
                f"into max_bytes={self._max_bytes}; put fewer at a time, or raise max_bytes"
            )
        if not self._group.put(entry, deadline):
            if self._waits_for_lock:
                raise self._locked()
            if self._waits_for_room:
                raise self._full()
            raise QueueLockedError(
                f"{self._log}: puts of other threads were still waiting after {timeout:g} s; "
                "nothing of this one was written"
            )
        if entry.error is not None:
            raise entry.error

    @property
    def interrupted(self) -> bool:
        """A put was ended in its middle by an exception out of a signal handler."""
        return self._group.interrupted

    def flush(self) -> None:
        """See `FileQueue.flush`."""
        with self._writing:
            self._check()
            self._writer.flush()

    def close(self) -> None:
        """Sync what is not synced yet, and give the lock back."""
        self._closing.set()
        if self._flusher is not None:
            self._flusher.join()
        with self._group.at_rest(), self._writing:
            try:
                if self._fsync != "never":
                    self._writer.flush()
            finally:
                self._writer.close()
                self._lock.close()

    def _open_log(self) -> None:
        """Look at the log once, so that what is wrong with it is said at the start.

        If another producer is at work, it is right. A full disk is not wrong: consumers drain it,
        and a put says itself that there is no room.
        """
        if self._lock.try_acquire():
            try:
                self._writer.prepare()
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                logger.warning("%s: no record can be put for now: %s", self._log, error)
            finally:
                self._lock.release()

    def _admit(self, entry: PendingPut, deadline: float | None) -> int:
        """Wait for the lock and for room; return the room in bytes."""
        while True:
            self._check()
            self._acquire_lock(deadline)
            with self._writing:
                size = self._writer.prepare()
                room = self._room(entry.size)
                if entry.size <= room:
                    self._waits_for_room = False
                    return room
                # Sealed, it goes once it is committed; active, it would stay, and the queue full.
                if size:
                    self._writer.seal()
            self._lock.release()
            if deadline is not None and time.monotonic() >= deadline:
                raise self._full()
            self._waits_for_room = True
            self._closing.wait(ROOM_PAUSE_SECONDS)

    def _full(self) -> QueueFullError:
        return QueueFullError(
            f"{self._log}: full, max_bytes={self._max_bytes} are in use; consumers must catch up, "
            "or raise max_bytes; nothing of this put was written"
        )

    def _room(self, needed: int) -> int:
        room = self._max_bytes - self._writer.used_bytes(exactly=False)
        if room < needed:
            room = self._max_bytes - self._writer.used_bytes(exactly=True)
        return room

    def _locked(self) -> QueueLockedError:
        return QueueLockedError(
            f"{self._lock.path}: held by {self._lock.holder()}; is it stopped? "
            "Nothing of this put was written"
        )

    def _acquire_lock(self, deadline: float | None) -> None:
        lock = self._lock
        if lock.try_acquire():
            return
        self._waits_for_lock = True
        try:
            while not lock.acquire(_within_a_second(deadline), LOCK_PAUSE_SECONDS, announce=False):
                self._check()
                if deadline is not None and time.monotonic() >= deadline:
                    raise self._locked()
                lock.announce()
        finally:
            self._waits_for_lock = False

    def _write_group(self, group: list[PendingPut]) -> None:
        bodies = group[0].bodies
        if len(group) > 1:
            bodies = [body for entry in group for body in entry.bodies]
        try:
            with self._writing:
                self._writer.append(bodies, sync=self._fsync == "always")
        except QueueUnavailableError as error:
            appended = error.appended or 0
            for entry in group:
                mine = min(len(entry.bodies), appended)
                appended -= mine
                if mine < len(entry.bodies):
                    entry.error = QueueUnavailableError(str(error), mine)
        if not self._lock.is_in_place():
            raise place.replaced(
                self._lock.path, "others may have put meanwhile, and nothing of this put counts"
            )

    def _flush_regularly(self, interval: float) -> None:
        while not self._closing.wait(interval):
            try:
                with self._writing:
                    self._writer.sync()
            except OSError as error:
                logger.error(
                    "%s: fsync failed (%s); going on in a new file; a power loss may take what was "
                    "put in the last %g s; the next flush says so, too",
                    self._log,
                    error,
                    interval,
                )


def _within_a_second(deadline: float | None) -> float:
    soon = time.monotonic() + 1.0
    return soon if deadline is None else min(deadline, soon)

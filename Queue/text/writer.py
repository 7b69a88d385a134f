"""Appending to the log: the next number, the torn end, the sealing.

All of this happens under the producers' lock. Between two holds of the lock another process may
have appended or sealed, so what is remembered here (descriptor, end, next number) is compared with
the file before each use, which is one system call. Whatever differs is read again from the file.

A file begins with a record, so that its first number, its name once it is sealed, is its own: a log
that has nothing but damage is sealed first.
"""

from __future__ import annotations

import contextlib
import logging
import os

from DurableText.storage import NO_ROOM, Storage
from Queue.errors import QueueReplacedError, QueueUnavailableError
from Queue.text import disk_room as room
from Queue.text import given_numbers, numbered_lines, place, segment, torn_end
from Queue.text.segment import QueuePaths

logger = logging.getLogger(__name__)

# In place of the end of the log while something is under way: whatever interrupts it, an error or
# an exception out of a signal handler, the log is then looked at anew before the next record.
UNKNOWN = -1


class Writer:
    """The producing end of the log.

    The caller holds the producers' lock for every call, and calls `prepare` after it has taken it.

    Attributes:
        unsynced: whether something was appended that is to be synced later.
    """

    def __init__(self, storage: Storage, paths: QueuePaths, segment_bytes: int) -> None:
        self.unsynced = False
        self._storage = storage
        self._paths = paths
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._end = 0
        self._next_seq = 1
        self._lost: OSError | None = None  # a sync that failed, and that `flush` has not told yet
        self._has_record = False  # an intact line stands in the open file, or no damage at least
        self._suspect = False  # a sync of the open file has failed
        self._was_full = False  # the disk had no room when it was tried last
        self._identity = (0, 0)
        self._sealed_bytes: int | None = None
        self._tail = b""  # what stands before the end, as far as it is known
        self._unflushed = False  # appended without a sync, and no `flush` has vouched for it

    def append(self, bodies: list[bytes], sync: bool) -> int:
        """Append records (of `inner_bytes`) behind all others; return the first number.

        Args:
            bodies: at least one.
            sync: whether to return only when they are on the disk.

        Raises:
            QueueUnavailableError: not all could be written; `appended` says how many count.
            QueueReplacedError: the log's name does not show what was written.
            OSError: nothing was written.
        """
        if self._suspect:  # a flush has failed since `prepare`
            self.seal()
        first = self._next_seq
        lines = numbered_lines.frame_numbered(bodies, first)
        data = b"".join(lines)
        end, self._end, self._tail = self._end, UNKNOWN, b""
        self.unsynced = self.unsynced or not sync
        self._unflushed = self._unflushed or not sync
        written, failure = self._write(data)
        whole = len(lines) if failure is None else data.count(b"\n", 0, written)
        torn = data.rfind(b"\n", 0, written) + 1
        is_healed = torn_end.blank_own(self._storage, self._paths, end + torn, end + written)
        self._next_seq = first + whole
        self._has_record = self._has_record or whole > 0
        self._was_full = failure is not None and failure.errno in NO_ROOM
        self._end = end + written
        if sync and whole:
            self._sync_or_replace(lines[:whole])
        self._tail = data[max(0, written - place.TAIL_BYTES) : written]
        self._check_place()
        if failure is not None:
            self._tail = b""
            if not is_healed:
                self._end = UNKNOWN  # `prepare` finds what stands at the end, and heals it
            if not whole and self._was_full:
                self.prepare()
                if not self._was_full:  # it has made room
                    return self.append(bodies, sync)
            raise QueueUnavailableError(
                f"{self._paths.log}: {whole} of {len(lines)} records appended, then: {failure}; "
                "make room, or look at the disk, and put the rest again",
                appended=whole,
            ) from failure
        return first

    def sync(self) -> None:
        """Sync what was appended without a sync.

        Raises:
            OSError: it failed; the next `append` begins a new file. `flush` tells of it as well.
        """
        if self.unsynced and self._fd >= 0 and not self._suspect:
            self._sync_all()

    def flush(self) -> None:
        """Return when all is on the disk that was appended since the last `flush`.

        Raises:
            OSError: a sync of it has failed, now or earlier, whoever else has seen that. It is
                told once: what was appended before counts as lost in a power loss.
            QueueReplacedError: what was appended is no longer there.
        """
        try:
            self.sync()
        finally:
            failure, self._lost = self._lost, None
        if failure is not None:
            raise failure
        if self._unflushed:
            self._check_place()
            self._unflushed = False

    def seal(self, void_from: int | None = None) -> None:
        """Close the active segment for good and begin a new one; nothing if it holds nothing.

        The directory is synced before anything can be acknowledged in the new file. A kill before
        that leaves the old name or the new one, and either is read in the right order.

        Args:
            void_from: the records from this number on are about to be written again.
        """
        storage, paths = self._storage, self._paths
        if self._end == 0:
            self._suspect = False
            return
        suspect = self._suspect
        if not suspect:  # also if ours are synced: another producer's may not be
            self._sync_all()
        first = segment.first_seq(storage, self._fd)
        if first is None and self._is_blank() and not suspect:
            return
        if first is None:  # nothing but damage: it gets a number of its own
            first = self._next_seq
            self._next_seq += 1
        assert 0 < first < self._next_seq, "a file begins with a number that was not given yet"
        if void_from is not None and first >= void_from:
            # The new file begins with the same number, and will need the name.
            storage.rename(paths.log, paths.void(self._next_seq - 1, self._identity[1]))
            self._open()
            return
        last = segment.last_seq(storage, self._fd, self._end) or 0
        storage.rename(paths.log, paths.sealed(first))
        self._open()
        if not suspect:
            given_numbers.remove_void(storage, paths, last)

    def prepare(self) -> int:
        """Make sure of the end of the log; return the size of the active segment in bytes.

        Raises:
            OSError: the disk refused; nothing was written.
            QueueConfigurationError: the file is no log of this format.
            QueueReplacedError: what was written is no longer there.
        """
        if self._was_full and room.remove_if_committed(
            self._storage, self._paths, self._next_seq - 1
        ):
            self._was_full = False
        if self._fd < 0 or not self._is_current():
            self.sync()  # of the file that another producer has sealed, with records of ours
            self._recover()
        if self._suspect or (self._end and not self._has_record):
            self.seal()
        if self._end >= self._segment_bytes:
            self.seal()
        return self._end

    def used_bytes(self, exactly: bool) -> int:
        """Return how much disk the log takes, sealed segments and the active one.

        Sealed segments do not change, and a new one is noticed when the log is opened again. So
        what they take is counted then; it can only be less by now, if consumers have removed some.
        Counting anew (`exactly`) is for when that matters.
        """
        if exactly or self._sealed_bytes is None:
            self._sealed_bytes = room.sealed_bytes(self._storage, self._paths)
        return self._sealed_bytes + max(self._end, 0)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._storage.close(fd)

    def _is_current(self) -> bool:
        """Return whether the open file is still the log, as this process left it.

        Raises:
            QueueReplacedError: it was taken away or cut, and not by the queue itself.
        """
        status = self._check_place()
        if status is None:
            return False
        if status.st_size == self._end:
            return True
        if self._end >= 0:  # another process has appended
            known_end, self._end = self._end, UNKNOWN
            tail, self._tail = self._tail, b""
            if self._storage.read(self._fd, len(tail), known_end - len(tail)) != tail:
                self._end, self._tail = known_end, tail
                raise self._replaced()
            end = torn_end.heal(self._storage, self._paths, self._fd, status.st_size)
            last = segment.last_seq(self._storage, self._fd, end, known_end)
            self._next_seq = max(self._next_seq, (last or 0) + 1)
            self._has_record = self._has_record or last is not None or self._is_blank()
            self._end = end
            return True
        return False

    def _check_place(self) -> os.stat_result | None:
        """Return what the system knows of the log; None if another process has sealed the open one.

        Raises:
            QueueReplacedError: as `_is_current`.
        """
        status = None
        with contextlib.suppress(FileNotFoundError):
            status = self._storage.stat(self._paths.log)
        # While it is open here, no other file can have its inode number.
        if status is not None and (status.st_dev, status.st_ino) == self._identity:
            if status.st_size < self._end:
                raise self._replaced()
            return status
        if not place.is_known(self._storage, self._paths, self._fd):
            raise self._replaced()
        return None

    def _replaced(self) -> QueueReplacedError:
        return place.replaced(
            self._paths.log, f"records up to {self._next_seq - 1} were written, to byte {self._end}"
        )

    def _recover(self) -> None:
        """Open the log and find its end and the next number: all of it, or nothing is open."""
        self._open()
        try:
            end, self._end = self._end, UNKNOWN
            self._end = self._read_end(end)
        except OSError as error:
            self.close()
            self._was_full = error.errno in NO_ROOM
            raise
        except BaseException:
            self.close()
            raise

    def _read_end(self, size: int) -> int:
        """Return the end of the log, healed, that had `size` bytes; find the next number."""
        storage, paths = self._storage, self._paths
        head = storage.read(self._fd, segment.SCAN_BYTES, 0)
        if segment.looks_foreign(head):
            raise segment.not_a_log(paths.log)
        end = torn_end.heal(storage, paths, self._fd, size)
        last = segment.last_seq(storage, self._fd, end)
        self._has_record = last is not None or self._is_blank()
        self._next_seq = given_numbers.next_after(
            storage, paths, max(self._next_seq - 1, last or 0)
        )
        return end

    def _is_blank(self) -> bool:
        """Return whether the log shows nothing but blanks, in place of a torn line."""
        return not self._storage.read(self._fd, segment.SCAN_BYTES, 0).strip(b" \n")

    def _open(self) -> None:
        """Open the log, making it if missing, and make its name durable.

        The process that made the file may have been killed before it synced the directory, so
        whoever opens it does that before acknowledging anything in it.
        """
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._fd = self._storage.open(self._paths.log, flags)
        try:
            status = self._storage.stat_open(self._fd)
            if (status.st_dev, status.st_ino) != self._identity:
                self._suspect = False
            self._identity = (status.st_dev, status.st_ino)
            self._end = status.st_size
            self._has_record = False  # as far as is known: `_recover` looks
            self._sealed_bytes = None
            self._tail = b""
            if not self._end:
                room.reserve(self._storage, self._paths, self._fd, self._segment_bytes)
            self._storage.sync_directory(self._paths.folder)
        except BaseException:
            self.close()
            raise

    def _write(self, data: bytes) -> tuple[int, OSError | None]:
        """Append `data`; return how much of it was written, and what stopped it."""
        done = 0
        try:
            while done < len(data):
                rest = memoryview(data)[done:] if done else data
                done += self._storage.append(self._fd, rest)
        except OSError as error:
            return done, error
        return done, None

    def _sync_all(self) -> None:
        try:
            self._storage.sync(self._fd)
        except OSError as error:
            self._suspect = True
            if self.unsynced:
                self._lost = error
            raise
        self.unsynced = False

    def _sync_or_replace(self, lines: list[bytes]) -> None:
        try:
            self._storage.sync(self._fd)
            self.unsynced = False
        except OSError as failure:
            self._replace_after_failed_sync(lines, failure)

    def _replace_after_failed_sync(self, lines: list[bytes], failure: OSError) -> None:
        log = self._paths.log
        logger.error("%s: fsync failed (%s); sealing it and writing to a new file", log, failure)
        self._suspect = True
        try:
            self.seal(void_from=self._next_seq - len(lines))
            written, error = self._write(b"".join(lines))
            self._end += written
            self._has_record = True
            if error is not None:
                raise error
            self._storage.sync(self._fd)
            self.unsynced = False
            given_numbers.remove_void(self._storage, self._paths, self._next_seq - 1)
        except OSError as error:
            self._suspect = True
            raise QueueUnavailableError(
                f"{log}: fsync failed ({failure}), and a new file did not help ({error}); "
                "nothing of this put is acknowledged; look at the disk, then put it again"
            ) from error

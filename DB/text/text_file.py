"""The DB's text: JSON Lines with a checksum, one result a line, appended by one writer.

    {"id":"0199…","label":"7",…,"stored_at":"2026-01-01T12:00:00.123Z","crc":"8d3f01c2"}

The bytes before `end` are known to be on the disk. What is behind it is not, and comes from:

* a kill or a full disk in the middle of an insert: some whole lines, then perhaps a torn one;
* a failed fsync: lines that the kernel has and the disk perhaps has not;
* a power loss: lines, holes of NUL bytes, a torn line.

`recover` deals with all three in the same way. Whole lines are kept: the same bytes are written
over themselves, which makes their pages dirty again, and synced on a new descriptor, so that they
are on the disk for sure. A torn end is copied to the quarantine file and overwritten with blanks
and a newline: readers of JSON Lines pass over blank lines, and nothing is ever cut off under a
reader. Overwriting needs no new blocks, so it works on a full disk too.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from DurableText import codec
from DurableText.codec import CHUNK_BYTES, scan
from DurableText.quarantine import CorruptLine, Quarantine
from DurableText.storage import Storage, write_all
from DurableText.torn_end import blank, torn_from, was_cut_short

logger = logging.getLogger(__name__)

# How much is read for one row; a longer one costs a second read.
ROW_BYTES = 2048

# With which a row begins.
ROW_PREFIX = b'{"'

# At most so much is written again on recovery: far more than ever lies between two syncs.
REWRITE_BYTES = 64 << 20


class TextFile:
    """The text as its one writer uses it.

    Attributes:
        end: everything before it is on the disk, in whole lines.
    """

    def __init__(self, path: Path, storage: Storage) -> None:
        self.path = path
        self.end = 0
        self._storage = storage
        self._quarantine = Quarantine(
            path.with_name(f"{path.stem}.quarantine{path.suffix}"), storage
        )
        self._fd = storage.open(path, os.O_RDWR | os.O_CREAT)
        try:
            self._identity = self._identify()
            storage.sync_directory(path.parent)
        except BaseException:
            self.close()
            raise

    def size(self) -> int:
        """Return the size of the file in bytes."""
        return self._storage.stat_open(self._fd).st_size

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes of the file."""
        return self._storage.read(self._fd, size, offset)

    def scan(self, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield whole lines between two offsets: see `DurableText.codec.scan`."""
        return scan(self.read, start, end)  # of whatever descriptor is the file's by then

    def line_at(self, offset: int) -> bytes | None:
        """Return the line that begins at `offset`; None if no line begins there."""
        if offset and self._storage.read(self._fd, 1, offset - 1) != b"\n":
            return None
        for size in (ROW_BYTES, codec.MAX_LINE_BYTES):
            line, newline, _ = self._storage.read(self._fd, size, offset).partition(b"\n")
            if newline:
                return line
        return None

    def append(self, data: bytes) -> int:
        """Append whole lines durably; return where they begin.

        Raises:
            OSError: they may be there in part; `end` stands where it stood, and `recover` has to
                be called before the next `append`.
        """
        start = self.end
        try:
            write_all(self._storage, self._fd, data, start)
        except OSError:
            with contextlib.suppress(OSError):  # else `recover` does
                size = self.size()
                blank(self._storage, self._fd, torn_from(self.read, start, size), size)
            raise
        try:
            self._storage.sync(self._fd)
        except OSError as error:
            logger.error("%s: fsync failed (%s); writing the same again", self.path, error)
            self._write_again(data, start)
        assert data.endswith(b"\n"), "whole lines alone are appended"
        self.end = start + len(data)
        return start

    def sync(self) -> None:
        """Sync what is written; raises an `OSError` if the disk refuses."""
        self._storage.sync(self._fd)

    def is_in_place(self) -> bool:
        """Tell whether the file at `path` is this one, with all that was written."""
        try:
            there = self._storage.stat(self.path)
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == self._identity and there.st_size >= self.end

    def recover(self, start: int) -> None:
        """Make whole and durable what lies behind `start`, and set `end`."""
        size = self.size()
        torn = torn_from(self.read, start, size)
        if torn < size:
            self._put_aside(torn, size)
            blank(self._storage, self._fd, torn, size)
        offset = max(start, size - REWRITE_BYTES)
        while offset < size:
            data = self.read(min(CHUNK_BYTES, size - offset), offset)
            write_all(self._storage, self._fd, data, offset)
            offset += len(data)
        self._reopen()
        self._storage.sync(self._fd)
        self.end = size

    def close(self) -> None:
        """Close the file; twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._storage.close(fd)

    def _put_aside(self, torn: int, size: int) -> None:
        for offset in range(torn, size, codec.MAX_LINE_BYTES):  # mostly one piece
            raw = self.read(min(size - offset, codec.MAX_LINE_BYTES), offset)
            if was_cut_short(raw, ROW_PREFIX):
                level, reason = logging.WARNING, "torn off while it was written"
            else:
                level, reason = logging.ERROR, codec.what_is_wrong(raw)
            self._quarantine.keep([CorruptLine(raw, self.path.name, 0, offset, reason)], level)

    def _write_again(self, data: bytes, start: int) -> None:
        """Recover from a failed fsync: the kernel believes the pages to be clean.

        Writing the same bytes makes them dirty again; a new descriptor does not inherit the error.
        """
        self._reopen()
        write_all(self._storage, self._fd, data, start)
        self._storage.sync(self._fd)

    def _reopen(self) -> None:
        old, self._fd = self._fd, self._storage.open(self.path, os.O_RDWR)
        self._storage.close(old)
        self._identity = self._identify()

    def _identify(self) -> tuple[int, int]:
        """Return what no other file has while this one is open."""
        status = self._storage.stat_open(self._fd)
        return status.st_ino, status.st_dev

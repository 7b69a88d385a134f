"""Whether what is open is still what the names show: the file's name is the queue.

The queue itself takes a name from a segment in two ways. A sealing gives it another one, under
which it is found by its inode. And what nobody needs any more is emptied before its name goes
(`put_away`), so whoever still has it open finds it empty and under no name. Whatever else is
missing was removed, replaced or cut by somebody else, with what stood in it.

A reader recognises its place by the end of the line before it. Size and inode would not do: a log
that was cut may have grown past the place by the time somebody looks.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from DurableText.storage import Storage
from Queue.errors import QueueReplacedError
from Queue.text.segment import QueuePaths, list_sealed, list_void

# So many bytes at the end of a line tell it from others: its checksum is among them.
TAIL_BYTES = 64


@dataclass(frozen=True)
class Mark:
    """Where a line ends in a segment, and how; with an empty `tail` nothing is known.

    `segment` is 0 for a log in which no record stood yet.
    """

    segment: int = 0
    end: int = 0
    tail: bytes = b""


def put_away(storage: Storage, path: Path) -> None:
    """Remove a file that nobody needs any more.

    Raises:
        FileNotFoundError: another process was quicker.
    """
    storage.empty(path)
    storage.unlink(path)


def is_known(storage: Storage, paths: QueuePaths, fd: int) -> bool:
    """Return whether the queue itself took the log's name from the file that is open as `fd`."""
    ours = storage.stat_open(fd)
    if not ours.st_size:
        return True
    others = [sealed.path for sealed in list_sealed(storage, paths)]
    others += [path for _, path in list_void(storage, paths)]
    for path in others:
        try:
            status = storage.stat(path)
        except FileNotFoundError:
            continue
        if (status.st_ino, status.st_dev) == (ours.st_ino, ours.st_dev):
            return True
    return not storage.stat_open(fd).st_size  # it may have been put away since the first look


class Witness:
    """Tells whether the queue still has what was read. One thread at a time.

    It keeps open where it has seen the last line: opening a file for each commit would cost more
    than all the rest of the look.
    """

    def __init__(self, storage: Storage, paths: QueuePaths) -> None:
        self._storage = storage
        self._paths = paths
        self._path = paths.log
        self._fd = -1
        self._identity = (0, 0)

    def sees(self, mark: Mark) -> bool:
        """Return whether the line that ends at `mark` still stands there.

        It is in the log, in the segment that was the log when it was read, or in a file that is
        void by now: then it was not acknowledged, or is written anew.
        """
        if not mark.tail:
            return True
        if self._is_current() and self._has(mark):
            return True
        void = [path for _, path in list_void(self._storage, self._paths)]
        for path in (self._paths.log, *self._sealed_from(mark.segment), *void):
            with contextlib.suppress(FileNotFoundError):
                self._open(path)
                if self._has(mark):
                    return True
        return False

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._identity = (0, 0)  # until the next one is known, whatever fails on the way
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._storage.close(fd)

    def _sealed_from(self, segment: int) -> list[Path]:
        """Return what a log may be by now that began with the record `segment`.

        Without one (0), as only what was torn off stood in it, it is named after what came later.
        """
        if segment:
            return [self._paths.sealed(segment)]
        return [sealed.path for sealed in list_sealed(self._storage, self._paths)]

    def _is_current(self) -> bool:
        if self._fd < 0:
            return False
        try:
            there = self._storage.stat(self._path)
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == self._identity

    def _open(self, path: Path) -> None:
        self.close()
        self._path = path
        self._fd = self._storage.open(path, os.O_RDONLY)
        status = self._storage.stat_open(self._fd)
        self._identity = (status.st_ino, status.st_dev)

    def _has(self, mark: Mark) -> bool:
        size = len(mark.tail)
        return self._storage.read(self._fd, size, mark.end - 1 - size) == mark.tail


def replaced(path: Path, what: str) -> QueueReplacedError:
    """Return the error for a file that was taken away while it was open."""
    return QueueReplacedError(
        f"{path} was removed, replaced or cut while it was open: {what}. Start again: "
        "the queue goes on with what is there"
    )

"""The files of a queue: their names, their order, and how to find one's way in them.

How they look and what always holds of them stands at the head of `Queue.text`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from DurableText import codec
from DurableText.lock import is_lock_of, shared_with
from DurableText.storage import Storage
from DurableText.storage import head as head_of
from Queue.errors import QueueConfigurationError
from Queue.text import numbered_lines

# How much is read at a time to find a line near the start or the end of a file.
SCAN_BYTES = 64 * 1024

# No number of a record, and no inode, is above it.
MOST = (1 << 64) - 1


@dataclass(frozen=True)
class QueuePaths:
    """Where the files of one queue are."""

    log: Path
    folder: Path
    cursor: Path
    quarantine: Path
    producer_lock: Path
    consumer_lock: Path

    @classmethod
    def of(cls, log: Path) -> QueuePaths:
        """Return the paths that go with the text file `log`."""
        folder, stem = log.parent, log.stem
        return cls(
            log=log,
            folder=folder,
            cursor=folder / f"{stem}.cursor",
            quarantine=folder / f"{stem}.quarantine{log.suffix}",
            producer_lock=folder / f"{stem}.producer.lock",
            consumer_lock=folder / f"{stem}.consumer.lock",
        )

    def require_own(self, storage: Storage) -> None:
        """Make sure that they are not those of another text.

        Raises:
            QueueConfigurationError: they are.
        """
        problem = shared_with(self.producer_lock, self.log, storage)
        if problem is not None:
            raise QueueConfigurationError(problem)
        lock = self.log.with_name(f"{self.log.stem}.lock")
        if is_lock_of(lock, self.log, storage):
            raise QueueConfigurationError(
                f"{self.log} is a DB's: name another file with --queue; if that DB is gone, remove "
                f"{lock.name}, too"
            )
        if not is_lock_of(self.producer_lock, self.log, storage) and _is_foreign(storage, self.log):
            raise not_a_log(self.log)

    @property
    def longest(self) -> Path:
        """The one that has the longest name of all that there may be."""
        return self.void(MOST, MOST)

    def sealed(self, first_seq: int) -> Path:
        """Return the path of the sealed segment that begins with `first_seq`."""
        return self.folder / f"{self.log.stem}.{first_seq}{self.log.suffix}"

    def void(self, last_seq: int, inode: int) -> Path:
        """Return the path of a file that is void as a whole and ends with `last_seq`."""
        return self.folder / f"{self.log.stem}.void-{last_seq}-{inode}{self.log.suffix}"


@dataclass(frozen=True, order=True)
class SealedSegment:
    """One sealed segment."""

    first_seq: int
    path: Path


def list_sealed(storage: Storage, paths: QueuePaths) -> list[SealedSegment]:
    """Return the sealed segments, oldest first."""
    start, end = f"{paths.log.stem}.", paths.log.suffix
    found = []
    for name in storage.names(paths.folder):
        if name.startswith(start) and name.endswith(end):
            digits = name[len(start) : len(name) - len(end)]
            if digits.isascii() and digits.isdigit():
                found.append(SealedSegment(int(digits), paths.folder / name))
    return sorted(found)


def sealed_of(path: Path) -> Path | None:
    """Return the log that a file of this name is a sealed segment of; None if of none."""
    name, _, digits = path.stem.rpartition(".")
    if name and digits.isascii() and digits.isdigit():
        return path.with_name(name + path.suffix)
    return None


def list_void(storage: Storage, paths: QueuePaths) -> list[tuple[int, Path]]:
    """Return (last number, path) of the files that are void as a whole.

    Nobody reads them, but their numbers are taken: a consumer may have read them when they stood
    in the log.
    """
    start, end = f"{paths.log.stem}.void-", paths.log.suffix
    found = []
    for name in storage.names(paths.folder):
        if name.startswith(start) and name.endswith(end):
            digits = name[len(start) :].partition("-")[0]
            if digits.isascii() and digits.isdigit():
                found.append((int(digits), paths.folder / name))
    return found


def find_void_from(storage: Storage, paths: QueuePaths, first: int) -> int | None:
    """Return the number from which on later segments replace that beginning at `first`."""
    later = [sealed for sealed in list_sealed(storage, paths) if sealed.first_seq > first]
    if later:
        return later[0].first_seq
    try:
        fd = storage.open(paths.log, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return first_seq(storage, fd)
    finally:
        storage.close(fd)


def first_seq(storage: Storage, fd: int) -> int | None:
    """Return the number of the first intact line, None if there is none."""
    offset, rest = 0, b""
    while data := storage.read(fd, SCAN_BYTES, offset):
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if (seq := numbered_lines.seq_of(line)) is not None:
                return seq
        rest = rest[-codec.MAX_LINE_BYTES :]
    return None


def last_seq(storage: Storage, fd: int, end: int, start: int = 0) -> int | None:
    """Return the number of the last intact line in the bytes from `start` to `end`, or None.

    Reads backwards, so that a healthy file costs one read however long it is. What is behind the
    last newline counts only if it is a whole line; a producer heals it before asking.
    """
    offset, rest = end, b""
    while offset > start:
        size = min(SCAN_BYTES, offset - start)
        offset -= size
        first, *lines = (storage.read(fd, size, offset) + rest).split(b"\n")
        for line in reversed(lines):
            if (seq := numbered_lines.seq_of(line)) is not None:
                return seq
        rest = first[: codec.MAX_LINE_BYTES]
    return numbered_lines.seq_of(rest)


def sealed_last_seq(storage: Storage, path: Path) -> int | None:
    """Return the number of the last intact line of a sealed segment, None if it has none."""
    fd = storage.open(path, os.O_RDONLY)
    try:
        return last_seq(storage, fd, storage.stat_open(fd).st_size)
    finally:
        storage.close(fd)


def not_a_log(path: Path) -> QueueConfigurationError:
    """Return the error for a file that is somebody else's."""
    return QueueConfigurationError(
        f"{path} is not a log of this queue (its lines have no seq and crc); "
        "name another file with --queue, or move this one away"
    )


def _is_foreign(storage: Storage, path: Path) -> bool:
    """Tell whether a file that was never opened as a log is somebody else's."""
    with contextlib.suppress(OSError):  # not there, no file, not to be read: others tell
        head = head_of(storage, path, codec.HEAD_BYTES)
        return looks_foreign(head) or codec.begins_otherwise(head)
    return False


def looks_foreign(head: bytes) -> bool:
    """Return whether the first bytes of a file show that it is not a log of this format.

    Damage must never look foreign: only whole lines of plain text that have no trace of the format
    count, and lines with a right checksum and no number: the DB's. A line that was torn off after
    its first bytes is one of ours.
    """
    whole_lines = head[: head.rfind(b"\n") + 1]
    for line in whole_lines.split(b"\n"):
        if codec.is_intact(line):
            return not line.startswith(codec.SEQ_PREFIX)
    if b"\0" in whole_lines or all(
        codec.SEQ_PREFIX.startswith(line.strip(b" ")) for line in whole_lines.split(b"\n")
    ):
        return False
    if b'"seq":' in whole_lines or b'"crc":"' in whole_lines:
        return False
    try:
        whole_lines.decode()
    except UnicodeDecodeError:
        return False
    return True

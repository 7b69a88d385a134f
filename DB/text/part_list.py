"""Which parts there should be: `db_for_app_2.parts.txt`, a line for each.

    {"part":18,"bytes":268435711,"tail":"5f0c11a2","crc":"8d3f01c2"}

`bytes` and the CRC-32 of the last bytes tell the part from another one, and from what is left of it
after a cut between two lines, which no checksum of a line shows. Above them may stand the newest
part that retention has removed: `{"dropped":17,"crc":"…"}`; that and all older ones may be missing.

The list is written anew under another name, before what it says is done. So after a kill its newest
part may still be the text that is written: it begins with the part's bytes. What is there without a
line was put there by hand; where there is no list, an older version has made the parts.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zlib import crc32

from DB.errors import DatabaseConfigurationError
from DurableText import codec
from DurableText.storage import Storage, write_all

logger = logging.getLogger(__name__)

# What a change of the DB's files that this program could not read would raise: the list says it as
# `format`, from the second one on.
FORMAT = 1

# The end of its name.
PARTS = "parts.txt"

# So many bytes at a part's end are summed up: several rows.
TAIL_BYTES = 4096

# A list of so many bytes, of 200,000 parts, is none.
MAX_LIST_BYTES = 16 << 20

# Of the numbers between two parts: one that was made by hand may have a date for its number.
MOST_GAPS = 100

Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Part:
    """A part as it was when it was completed.

    Attributes:
        bytes: its size.
        tail: CRC-32 of its last `TAIL_BYTES`, as 8 hex digits.
    """

    bytes: int
    tail: str

    def begins(self, read: Read, size: int) -> bool:
        """Tell whether a file of `size` bytes begins with this part."""
        return size >= self.bytes and tail_of(read, self.bytes) == self.tail


# One that was missing already when the list was begun: nobody knows how it was.
UNKNOWN = Part(0, "")


@dataclass(frozen=True)
class Listed:
    """What the list says.

    Attributes:
        parts: by number.
        dropped: this part and all older ones were removed by retention.
        damaged: how many of its lines cannot be read.
    """

    parts: Mapping[int, Part] = field(default_factory=dict)
    dropped: int = 0
    damaged: int = 0


def list_path(path: Path) -> Path:
    """Return where the list of the parts of the text at `path` lies."""
    return path.with_name(f"{path.stem}.{PARTS}")


def tail_of(read: Read, end: int) -> str:
    """Return the sum of the last bytes before `end`."""
    start = max(0, end - TAIL_BYTES)
    return f"{crc32(read(end - start, start)):08x}"


def read_list(path: Path, storage: Storage) -> Listed | None:
    """Return what the list of the text at `path` says; None if there is none.

    Raises:
        DatabaseConfigurationError: a newer version has written it.
    """
    try:
        fd = storage.open(list_path(path), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        lines = storage.read(fd, MAX_LIST_BYTES, 0).split(b"\n")
    finally:
        storage.close(fd)
    parts: dict[int, Part] = {}
    dropped = damaged = 0
    for line in filter(bytes.strip, lines):
        match codec.decode(line):
            case {"format": form} if form != FORMAT:
                raise DatabaseConfigurationError(
                    f"{list_path(path)} has format {form!r:.20}, this program knows format "
                    f"{FORMAT}: a newer version has written the DB; use that one, or name another "
                    "file with --db"
                )
            case {"part": int(number), "bytes": int(size), "tail": str(tail)}:
                parts[number] = Part(size, tail)
            case {"dropped": int(number)}:
                dropped = max(dropped, number)
            case _:
                damaged += 1
    return Listed(parts, dropped, damaged)


def write_list(path: Path, storage: Storage, listed: Listed) -> None:
    """Write the list of the text at `path` anew, durably."""
    lines = [b'{"dropped":%d' % listed.dropped] if listed.dropped else []
    lines += [
        b'{"part":%d,"bytes":%d,"tail":"%b"' % (number, part.bytes, part.tail.encode())
        for number, part in sorted(listed.parts.items())
    ]
    path = list_path(path)
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):  # what a kill has left
        storage.unlink(new)
    fd = storage.open(new, os.O_RDWR | os.O_CREAT)
    try:
        write_all(storage, fd, b"".join(codec.frame_all(lines)), 0)
        storage.sync(fd)
    finally:
        storage.close(fd)
    storage.rename(new, path)
    storage.sync_directory(path.parent)


class PartList:
    """The list as the one writer of the text uses it. One thread at a time."""

    def __init__(self, path: Path, storage: Storage, found: Mapping[int, Path]) -> None:
        """Read the list, or begin it with the parts that were found; say what does not fit.

        Args:
            path: the text.
            storage: the layer for system calls.
            found: the parts that are there.

        Raises:
            OSError: it cannot be read, or not be begun.
        """
        self._path = path
        self._storage = storage
        listed = read_list(path, storage)
        for problem in differences(path, storage, found, listed):
            logger.error("%s; see `python -m DB verify`", problem)
        self._parts = {} if listed is None else dict(listed.parts)
        self._dropped = 0 if listed is None else listed.dropped
        if listed is None or listed.damaged:
            self._take_up(found)
        if listed is None and found:
            self._write()

    def next_number(self, found: Collection[int]) -> int:
        """Return the number of the next part: none is given twice, but for one not completed."""
        newest = max(self._parts, default=0)
        if newest and newest not in found and self._is_text(self._parts[newest]):
            del self._parts[newest]
        return max([self._dropped, *found, *self._parts]) + 1

    def complete(self, number: int, read: Read, end: int) -> None:
        """Note durably that the text becomes part `number`."""
        self._parts[number] = Part(end, tail_of(read, end))
        self._write()

    def drop(self, numbers: Sequence[int]) -> None:
        """Note durably that these parts are removed: the oldest that are there."""
        self._dropped = max(self._dropped, *numbers)
        self._parts = {each: part for each, part in self._parts.items() if each > self._dropped}
        self._write()

    def _take_up(self, found: Mapping[int, Path]) -> None:
        """Note what is there without a line, and what is missing between those that are there."""
        for number, part in found.items():
            if number > self._dropped:
                self._parts.setdefault(number, self._part_at(part))
        for number in _gaps(self._parts):
            self._parts[number] = UNKNOWN

    def _write(self) -> None:
        write_list(self._path, self._storage, Listed(self._parts, self._dropped))

    def _is_text(self, part: Part) -> bool:
        return _is_unfinished(self._path, self._storage, part)

    def _part_at(self, path: Path) -> Part:
        fd = self._storage.open(path, os.O_RDONLY)
        try:
            size = self._storage.stat_open(fd).st_size
            return Part(size, tail_of(partial(self._storage.read, fd), size))
        finally:
            self._storage.close(fd)


def differences(
    path: Path, storage: Storage, found: Mapping[int, Path], listed: Listed | None
) -> list[str]:
    """Return what is wrong with the parts that were found, in words; reads their ends only.

    Args:
        path: the text.
        storage: the layer for system calls.
        found: the parts that are there.
        listed: what the list says; None where there is none: then those between two that are there
            are missing.
    """
    if listed is None:
        return [f"{path}: part {number} is missing" for number in _gaps(found)]
    problems = []
    if listed.damaged:
        problems.append(f"{list_path(path)}: {listed.damaged} of its lines cannot be read")
    for number in sorted({*found, *listed.parts}):
        part, known = found.get(number), listed.parts.get(number)
        if part is None:
            assert known is not None
            newest = number == max(listed.parts)
            if not newest or not _is_unfinished(path, storage, known):
                size = "" if known == UNKNOWN else f", of {known.bytes:,} bytes"
                problems.append(f"{path}: part {number} is missing{size}")
        elif known is None:
            if number > listed.dropped and not listed.damaged:
                problems.append(f"{part}: no rotation has made this part: it was put there by hand")
        elif known != UNKNOWN:
            with contextlib.suppress(FileNotFoundError):  # just dropped
                problems += _what_differs(part, storage, known)
    return problems


def _gaps(numbers: Collection[int]) -> list[int]:
    pairs = itertools.pairwise(sorted(numbers))
    between = (number for low, high in pairs for number in range(low + 1, high))
    return list(itertools.islice(between, MOST_GAPS))


def _what_differs(path: Path, storage: Storage, known: Part) -> list[str]:
    fd = storage.open(path, os.O_RDONLY)
    try:
        size = storage.stat_open(fd).st_size
        whole = known.begins(partial(storage.read, fd), size)
    finally:
        storage.close(fd)
    if size < known.bytes:
        return [f"{path}: cut: it has {size:,} bytes, and had {known.bytes:,}"]
    if size > known.bytes:
        return [f"{path}: it has {size:,} bytes, and had {known.bytes:,} when it was completed"]
    return [] if whole else [f"{path}: its end is another one than when it was completed"]


def _is_unfinished(path: Path, storage: Storage, known: Part) -> bool:
    """Tell whether a part is still the text: killed between the list and the rename."""
    try:
        fd = storage.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return known.begins(partial(storage.read, fd), storage.stat_open(fd).st_size)
    finally:
        storage.close(fd)

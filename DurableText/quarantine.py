"""Corrupt lines and gaps, kept in `log.quarantine.txt` before the cursor passes them.

One line of JSON each, with a `crc` like all others:

    {"time":"…","file":"log.txt","segment":769,"offset":77312,"length":310,"reason":"…",
     "text":"…","base64":"…","crc":"…"}

`base64` holds the very bytes; `text` is there for the eye and is cut. A gap has no bytes: its
`length` is 0 and its `reason` names the numbers that are missing.

The entry is durable before the cursor is. A kill between the two brings the same line to the next
consumer once more, so entries already there are recognised by their place and not written twice.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zlib import crc32

import orjson

from DurableText import codec
from DurableText.codec import scan
from DurableText.program.wording import counted
from DurableText.storage import Storage, append_all

logger = logging.getLogger(__name__)

# How much of a corrupt line is shown as text.
TEXT_CHARACTERS = 200

# So many of the newest entries are recognised when they come again: about 2 MB. Those of batches
# that were not committed come again, or all that is not removed if the cursor was lost.
REMEMBERED = 16_384

# An entry holds a line of up to 1 MiB in base64.
LONGEST_ENTRY_BYTES = 2 * codec.MAX_LINE_BYTES


@dataclass(frozen=True)
class CorruptLine:
    """A line that could not be read as a record, or a gap in the numbers.

    Attributes:
        raw: the line's bytes without the newline; empty for a gap.
        file: name of the file it stands in (at the time it was read).
        segment: number of that file's first record.
        offset: where in the file the line begins, in bytes.
        reason: what is wrong with it.
        seq: the number that was expected here; for a gap the last one that is missing; 0 where
            nothing was expected.
    """

    raw: bytes
    file: str
    segment: int
    offset: int
    reason: str
    seq: int = 0

    @property
    def found_at(self) -> dict[str, str]:
        """Where it was found, for a dead letter and for the log."""
        return {"file": self.file, "offset": str(self.offset)}

    @property
    def place(self) -> tuple[int, int, int]:
        """What makes two findings the same one."""
        return self.segment, self.offset, crc32(self.raw or self.reason.encode())


class Quarantine:
    """The quarantine file, as the active consumer writes it. Opened only when it is needed."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._path = path
        self._storage = storage
        self._known: dict[tuple[int, int, int], None] | None = None  # the newest stand last

    def keep(self, lines: Sequence[CorruptLine], level: int = logging.ERROR) -> None:
        """Write those of `lines` that are not there yet; durable when it returns.

        Args:
            lines: what was found.
            level: at which it is logged: a torn end that nobody was told of is no damage.

        Raises:
            OSError: it could not be written; calling again is fine.
        """
        storage = self._storage
        fd = storage.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = storage.stat_open(fd).st_size
            if self._known is None:
                self._known = self._read_places(fd, size)
            known = self._known
            fresh = [line for line in lines if line.place not in known]
            data = b"".join(_encode(line) for line in fresh)
            # Recovers from a kill or a full disk in the middle of an entry: the newline keeps
            # ours from being glued to the torn one.
            if size and storage.read(fd, 1, size - 1) != b"\n":
                data = b"\n" + data
            append_all(storage, fd, data)
            storage.sync(fd)
            storage.sync_directory(self._path.parent)
        finally:
            storage.close(fd)
        if fresh:
            logger.log(level, "%s; kept in %s", _in_words(fresh), self._path)
        for line in fresh:
            _remember(known, line.place)

    def _read_places(self, fd: int, size: int) -> dict[tuple[int, int, int], None]:
        places: dict[tuple[int, int, int], None] = {}
        for _, lines in scan(partial(self._storage.read, fd), 0, size, LONGEST_ENTRY_BYTES):
            for line in lines:
                with contextlib.suppress(KeyError, TypeError, ValueError):  # it is none of ours
                    _remember(places, _place_of(line))
        return places


def _in_words(found: Sequence[CorruptLine]) -> str:
    """Tell the first of what was found, and how far the others reach: there may be thousands."""
    first, last = found[0], found[-1]
    said = f"{first.file} at byte {first.offset}: {first.reason}"
    if len(found) > 1:
        others = counted(len(found) - 1, "more line")
        said += f"; and {others}, the last in {last.file} at byte {last.offset}"
    return said


def _place_of(line: bytes) -> tuple[int, int, int]:
    entry = codec.decode(line) or {}
    raw = base64.b64decode(entry["base64"]) or str(entry["reason"]).encode()
    return int(entry["segment"]), int(entry["offset"]), crc32(raw)


def _remember(places: dict[tuple[int, int, int], None], place: tuple[int, int, int]) -> None:
    places[place] = None
    if len(places) > REMEMBERED:
        del places[next(iter(places))]


def _encode(line: CorruptLine) -> bytes:
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "file": line.file,
        "segment": line.segment,
        "offset": line.offset,
        "length": len(line.raw),
        "reason": line.reason,
        "text": line.raw[:TEXT_CHARACTERS].decode(errors="backslashreplace"),
        "base64": base64.b64encode(line.raw).decode(),
    }
    return codec.frame(orjson.dumps(entry)[:-1])

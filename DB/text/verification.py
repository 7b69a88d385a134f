"""What `python -m DB verify` finds: corrupt lines, what stands twice, a torn end, a part too few.

Results, conflicts and shadows are texts of one kind, each with parts; all of them are read.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from DB.database_interface import DatabaseVerification
from DB.errors import DatabaseRecordError, DatabaseUnavailableError
from DB.results import shadow_key
from DB.text.conflicts import name_of
from DB.text.index import Index, IndexDamagedError
from DB.text.indexed_text import id_of
from DB.text.part_list import differences, read_list
from DB.text.parts import Opened, open_in_turn, part_numbers, part_path
from DurableText import codec
from DurableText.codec import scan
from DurableText.lock import current_holder
from DurableText.program.wording import counted
from DurableText.progress import Advance, uncounted
from DurableText.storage import STORAGE

# A rotation meanwhile makes list and parts differ for a moment: so often it is looked again.
LOOKS = 3

# Between an id and what else a row is known by: no id holds it.
SEPARATOR = "\0"

# What a row is known by: a text; a row that has none raises.
Identity = Callable[[dict[str, Any]], str]


def verify(
    path: Path, conflicts: Path, shadows: Path, advance: Advance = uncounted
) -> DatabaseVerification:
    """Read the whole DB at `path`: checksums, ids that stand twice, whether all parts are there.

    Needs no lock, bounded memory, and about 20 bytes a row of temporary disk.

    Args:
        path: the text, of which links are resolved.
        conflicts: that of the conflicts; may be missing.
        shadows: that of what shadows say; may be missing.
        advance: is told how many more rows are read, of all three.

    Raises:
        DatabaseUnavailableError: the file is not there, or cannot be read.
    """
    lock = path.with_name(f"{path.stem}.lock")
    try:
        found = _Reading(path, id_of, lock, advance).all()
        for beside, identity, what, whose in (
            (conflicts, lambda row: SEPARATOR.join(name_of(row)), "conflict", ""),
            (shadows, shadow_key, "answer", " of shadows"),
        ):
            reading = _Reading(beside, identity, lock, advance)
            if reading.is_there():
                other = reading.all()
                other.notes.append(f"{counted(other.rows, what)}{whose} kept in {beside}")
                other.rows = other.bytes = 0
                found += other
    except OSError as error:
        raise DatabaseUnavailableError(f"cannot read the DB {path}: {error}") from error
    except IndexDamagedError as error:  # SQLite's file of the ids read so far
        raise DatabaseUnavailableError(
            f"cannot verify the DB {path}: {error}; is there room in {tempfile.gettempdir()}?"
        ) from error
    return found


@dataclass(frozen=True)
class _Read:
    """A file of the text; its bytes are counted from `start` on, over all files."""

    path: Path
    start: int
    size: int


class _Reading:
    """Reads one text with its parts."""

    def __init__(self, path: Path, identity: Identity, lock: Path, advance: Advance) -> None:
        self._path = path
        self._identity = identity
        self._lock = lock
        self._advance = advance
        self._found = DatabaseVerification()
        self._files: list[_Read] = []

    def is_there(self) -> bool:
        return self._path.exists() or bool(part_numbers(self._path, STORAGE))

    def all(self) -> DatabaseVerification:
        for problem in self._differences():
            self._found.report(problem)
        with tempfile.TemporaryDirectory() as folder:
            ids = Index(Path(folder) / "ids")
            try:
                with contextlib.closing(open_in_turn(self._path, STORAGE)) as files:
                    for file in files:
                        self._read(file, ids)
            finally:
                ids.close()
        self._found.bytes = sum(each.size for each in self._files)
        return self._found

    def _differences(self) -> list[str]:
        problems: list[str] = []
        for _ in range(LOOKS):
            before = read_list(self._path, STORAGE)
            found = self._parts()
            listed = read_list(self._path, STORAGE)
            problems = differences(self._path, STORAGE, found, listed)
            if not problems or (before == listed and found == self._parts()):
                break
        return problems

    def _parts(self) -> dict[int, Path]:
        return {each: part_path(self._path, each) for each in part_numbers(self._path, STORAGE)}

    def _read(self, file: Opened, ids: Index) -> None:
        before = self._files[-1] if self._files else _Read(file.path, 0, 0)
        opened = _Read(file.path, before.start + before.size, file.size)
        self._files.append(opened)
        end = 0
        for begin, lines in scan(partial(STORAGE.read, file.fd), 0, file.size):
            names, offset = [], begin
            for line in lines:
                place = opened.start + offset
                row = codec.decode(line)
                name = None if row is None else self._name_of(row)
                if name is not None:
                    names.append((name, ids.key_of(name), place))
                elif line.strip():
                    reason = codec.what_is_wrong(line) if row is None else "the row has no id"
                    self._found.report(f"{self._place(place)}: {reason}")
                offset += len(line) + 1
            self._find_repeated(names, ids)
            self._found.rows += len(names)
            self._advance(len(names))
            end = offset
        if end < opened.size:
            self._tell_torn_end(opened, end)

    def _tell_torn_end(self, opened: _Read, end: int) -> None:
        holder = current_holder(self._lock) if opened.path == self._path else None
        place = self._place(opened.start + end)
        tail = f"{place}: {opened.size - end} bytes behind the last newline"
        if holder is None:
            self._found.report(f"{tail}: a torn line; the next writer moves it to quarantine")
        else:
            self._found.notes.append(f"{tail}: being written by {holder}")

    def _find_repeated(self, names: Sequence[tuple[str, int, int]], ids: Index) -> None:
        stored = ids.find(key for _, key, _ in names)
        fresh: dict[int, list[tuple[str, int]]] = {}
        for name, key, place in names:
            earlier = ((self._name_at(each), each) for each in stored.get(key, ()))
            for other, where in chain(earlier, fresh.get(key, ())):
                if other == name:
                    self._found.report(
                        f"{self._place(place)}: id {name.partition(SEPARATOR)[0]!r} stands "
                        f"already at {self._place(where)}"
                    )
                    break
            fresh.setdefault(key, []).append((name, place))
        ids.add([(key, place) for _, key, place in names], 0, b"")

    def _name_of(self, row: dict[str, Any]) -> str | None:
        try:
            return self._identity(row) if isinstance(row["id"], str) else None
        except (KeyError, DatabaseRecordError):
            return None

    def _file_at(self, offset: int) -> _Read:
        return next(each for each in reversed(self._files) if each.start <= offset)

    def _place(self, offset: int) -> str:
        """Return where a byte stands, in words."""
        opened = self._file_at(offset)
        place = f"byte {offset - opened.start}"
        return place if len(self._files) == 1 else f"{opened.path.name}, {place}"

    def _name_at(self, offset: int) -> str | None:
        opened = self._file_at(offset)
        try:
            fd = STORAGE.open(opened.path, os.O_RDONLY)  # it may be closed already
        except FileNotFoundError:  # just dropped
            return None
        try:
            line = STORAGE.read(fd, codec.MAX_LINE_BYTES, offset - opened.start).partition(b"\n")[0]
        finally:
            STORAGE.close(fd)
        row = codec.decode(line)
        return None if row is None else self._name_of(row)

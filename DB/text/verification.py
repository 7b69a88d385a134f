"""What `python -m DB verify` finds in a text: corrupt lines, ids that stand twice, a torn end."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from DB.database_interface import Verification
from DB.errors import DatabaseUnavailableError
from DB.text.index import Index, IndexDamagedError
from DurableText import codec
from DurableText.codec import scan
from DurableText.lock import current_holder
from DurableText.storage import STORAGE, refuse_what_is_no_file


def verify(path: Path) -> Verification:
    """Read the whole DB at `path`, of which links are resolved: checksums, ids that stand twice.

    Needs no lock, bounded memory, and about 20 bytes a row of temporary disk.

    Raises:
        DatabaseUnavailableError: the file is not there, or cannot be read.
    """
    found = Verification()
    try:
        refuse_what_is_no_file(path)
        fd = STORAGE.open(path, os.O_RDONLY)
        try:
            with tempfile.TemporaryDirectory() as folder:
                _read_all(path, fd, Index(Path(folder) / "ids"), found)
        finally:
            STORAGE.close(fd)
        conflicts = path.with_name(f"{path.stem}.conflicts.txt")
        if conflicts.exists():
            found.notes.append(f"{_count_intact(conflicts):,} conflicts are kept in {conflicts}")
    except OSError as error:
        raise DatabaseUnavailableError(f"cannot read the DB {path}: {error}") from error
    except IndexDamagedError as error:  # SQLite's file of the ids read so far
        raise DatabaseUnavailableError(
            f"cannot verify the DB {path}: {error}; is there room in {tempfile.gettempdir()}?"
        ) from error
    return found


def _count_intact(path: Path) -> int:
    fd = STORAGE.open(path, os.O_RDONLY)
    try:
        groups = scan(partial(STORAGE.read, fd), 0, STORAGE.stat_open(fd).st_size)
        return sum(codec.decode(line) is not None for _, lines in groups for line in lines)
    finally:
        STORAGE.close(fd)


def _read_all(path: Path, fd: int, ids: Index, found: Verification) -> None:
    found.bytes = STORAGE.stat_open(fd).st_size
    end = 0
    for begin, lines in scan(partial(STORAGE.read, fd), 0, found.bytes):
        rows, offset = [], begin
        for line in lines:
            row = codec.decode(line)
            if row is not None and isinstance(row.get("id"), str):
                rows.append((row, ids.key_of(row["id"]), offset))
            elif line.strip():
                reason = "the row has no id" if row is not None else codec.what_is_wrong(line)
                found.report(f"byte {offset}: {reason}")
            offset += len(line) + 1
        _find_repeated(fd, rows, ids, found)
        found.rows += len(rows)
        end = offset
    ids.close()
    if end < found.bytes:
        holder = current_holder(path.with_name(f"{path.stem}.lock"))
        tail = f"byte {end}: {found.bytes - end} bytes behind the last newline"
        if holder is None:
            found.report(f"{tail}: a torn line; the next writer moves it to quarantine")
        else:
            found.notes.append(f"{tail}: being written by {holder}")


def _find_repeated(
    fd: int, rows: list[tuple[dict[str, Any], int, int]], ids: Index, found: Verification
) -> None:
    stored = ids.find(key for _, key, _ in rows)
    fresh: dict[int, list[tuple[str, int]]] = {}
    for row, key, offset in rows:
        earlier = [(_id_at(fd, place), place) for place in stored.get(key, ())]
        for other_id, place in earlier + fresh.get(key, []):
            if other_id == row["id"]:
                found.report(f"byte {offset}: id {row['id']!r} stands already at byte {place}")
                break
        fresh.setdefault(key, []).append((row["id"], offset))
    ids.add([(key, offset) for _, key, offset in rows], 0, b"")


def _id_at(fd: int, offset: int) -> object:
    line = STORAGE.read(fd, codec.MAX_LINE_BYTES, offset).partition(b"\n")[0]
    return (codec.decode(line) or {}).get("id")

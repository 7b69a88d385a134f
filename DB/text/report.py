"""The summary as text, and what `python -m DB verify` finds."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from DB.errors import DatabaseStorageError
from DB.summary import Summary
from DB.text.index import Index, IndexDamagedError, key_of
from DurableText import codec
from DurableText.codec import scan
from DurableText.command_line import duration_in_words, rate_in_words
from DurableText.findings import Findings
from DurableText.lock import current_holder
from DurableText.storage import STORAGE, real_path, refuse_what_is_no_file

CONFUSIONS_SHOWN = 10


def as_text(summary: Summary) -> str:
    """Return the summary as a few lines for a terminal."""
    lines = [f"results      {summary.rows:,}"]
    if summary.corrupt:
        lines.append(f"corrupt      {summary.corrupt:,} lines: see `python -m DB verify`")
    if summary.accuracy is not None:
        lines.append(
            f"accuracy     {summary.accuracy:.4%} ({summary.correct:,} of {summary.known:,} right)"
        )
    if summary.latency_p50 is not None:
        values = (summary.latency_p50, summary.latency_p95, summary.latency_p99)
        p50, p95, p99 = (duration_in_words(value or 0.0) for value in values)
        lines.append(f"latency      p50 {p50}, p95 {p95}, p99 {p99} from published to stored")
    if summary.throughput is not None:
        rate = rate_in_words(summary.throughput, " results")
        lines.append(f"throughput   {rate} from first to last insert")
    if summary.first_stored_at is not None and summary.last_stored_at is not None:
        lines.append(
            f"stored       {summary.first_stored_at:%Y-%m-%d %H:%M:%S} to "
            f"{summary.last_stored_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    for model, count in summary.models.items():
        lines.append(f"model        {model}  {count:,}")
    lines += _labels(summary)
    lines += _confusions(summary)
    return "\n".join(lines)


def _labels(summary: Summary) -> list[str]:
    lines = ["", "label        results"] if summary.labels else []
    for label in sorted(summary.labels):
        count = summary.labels[label]
        bar = "#" * round(30 * count / max(summary.labels.values()))
        lines.append(f"{label:12} {count:9,}  {bar}")
    return lines


def _confusions(summary: Summary) -> list[str]:
    if not summary.confusions:
        return []
    lines = ["", "expected     taken for    times"]
    for expected, given, count in summary.confusions[:CONFUSIONS_SHOWN]:
        lines.append(f"{expected:12} {given:12} {count:,}")
    rest = summary.confusions[CONFUSIONS_SHOWN:]
    if rest:
        lines.append(f"and {len(rest)} other pairs, {sum(n for _, _, n in rest):,} results")
    return lines


@dataclass
class Verification(Findings):
    """What a reading of the whole DB has found.

    Attributes:
        rows: intact rows.
        bytes: size of the text.
    """

    rows: int = 0
    bytes: int = 0


def verify(path: str | os.PathLike[str]) -> Verification:
    """Read the whole DB at `path`: checksums, ids, ids that stand twice.

    Needs no lock, bounded memory, and about 20 bytes a row of temporary disk.

    Raises:
        DatabaseStorageError: the file is not there, or cannot be read.
    """
    path = real_path(path)
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
        raise DatabaseStorageError(f"cannot read the DB {path}: {error}") from error
    except IndexDamagedError as error:  # SQLite's file of the ids read so far
        raise DatabaseStorageError(
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
                rows.append((row, key_of(row["id"]), offset))
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
    ids.add(((key, offset) for _, key, offset in rows), 0, b"")


def _id_at(fd: int, offset: int) -> object:
    line = STORAGE.read(fd, codec.MAX_LINE_BYTES, offset).partition(b"\n")[0]
    return (codec.decode(line) or {}).get("id")

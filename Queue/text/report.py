"""What `python -m Queue status` and `verify` tell. Both only read, and take no lock.

A queue at work changes while it is read: a segment may be removed between its listing and its
opening. What matters is read again then, so that only what is really wrong is reported.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from DurableText import codec
from DurableText.codec import scan
from DurableText.files.links import real_path
from DurableText.lock import current_holder
from DurableText.program.remedies import in_the_way, remedy_of
from DurableText.program.wording import counted
from DurableText.progress import Advance, uncounted
from DurableText.quarantine import LONGEST_ENTRY_BYTES, CorruptLine
from DurableText.storage import STORAGE, NoFileError, head, refuse_what_is_no_file
from Queue.errors import QueueConfigurationError, QueueError, QueueUnavailableError
from Queue.queue_interface import QueueStatus, QueueVerification, Record
from Queue.text import cursor, segment
from Queue.text.cursor import SLOT_BYTES, Position
from Queue.text.reader import Reader
from Queue.text.segment import QueuePaths

# Records read at a time: each may have a MiB.
READ_RECORDS = 32

# How often something is looked at again that others may just be changing.
TRIES = 5


@dataclass(frozen=True)
class TextStatus(QueueStatus):
    """How a queue in a text file stands.

    Attributes:
        oldest_seq: the number of the oldest record, 0 if there is none.
        next_seq: the number that the next record gets.
        committed_seq: the number of the last record committed; 0 if nothing is known.
        active_bytes: size of `log.txt`.
        sealed_files: how many sealed segments there are.
        sealed_bytes: their size.
        quarantined: entries in the quarantine.
        producer: who holds the producers' lock right now, None if nobody.
        consumer: who is the active consumer, None if nobody.
    """

    oldest_seq: int
    next_seq: int
    committed_seq: int
    active_bytes: int
    sealed_files: int
    sealed_bytes: int
    quarantined: int
    producer: str | None
    consumer: str | None

    def as_dict(self) -> dict[str, Any]:
        """See `QueueStatus.as_dict`."""
        oldest = None if self.oldest is None else orjson.loads(self.oldest.body)
        return {**dataclasses.asdict(self), "oldest": oldest}

    def lines(self, name: str) -> list[str]:
        """See `QueueStatus.lines`."""
        lines = [
            f"queue        {name}",
            f"waiting      {counted(self.depth, 'record')}",
            f"numbers      next {self.next_seq}, committed up to {self.committed_seq}",
            f"active file  {self.active_bytes:,} bytes",
            f"sealed       {counted(self.sealed_files, 'file')}, {self.sealed_bytes:,} bytes",
            f"quarantine   {self.quarantined:,} entries",
            f"producer     {self.producer or 'nobody is writing right now'}",
            f"consumer     {self.consumer or 'nobody'}",
        ]
        if self.oldest is not None:
            shown = self.oldest.body.decode()
            lines.insert(2, f"oldest       seq {self.oldest_seq}: {shown[:160]}")
        return lines


def status(path: str | os.PathLike[str]) -> TextStatus:
    """Return how the queue at `path` stands.

    Reads a few lines, however long the queue is, and what damage there is before the oldest record.

    Raises:
        QueueUnavailableError: there is no queue, or it cannot be read.
    """
    paths = _paths(path)
    try:
        refuse_what_is_no_file(paths.log)
        place = cursor.peek(STORAGE, paths.cursor)
        sealed = segment.list_sealed(STORAGE, paths)
        sizes = [_size(one.path) for one in sealed]
        oldest, oldest_seq = _oldest(paths, place)
        tail = max([_last_seq(paths.log), *(_last_seq(one.path) for one in sealed[-1:])])
        next_seq = max(tail + 1, place.next_seq if place else 1)
        return TextStatus(
            depth=next_seq - oldest_seq if oldest_seq else 0,
            oldest=oldest,
            oldest_seq=oldest_seq,
            next_seq=next_seq,
            committed_seq=place.next_seq - 1 if place else 0,
            active_bytes=_size(paths.log),
            sealed_files=len(sealed),
            sealed_bytes=sum(sizes),
            quarantined=_Lines(paths.quarantine).intact,
            producer=current_holder(paths.producer_lock),
            consumer=current_holder(paths.consumer_lock),
        )
    except OSError as error:
        raise _unreadable(path, error) from error


def _oldest(paths: QueuePaths, place: Position | None) -> tuple[Record | None, int]:
    """Return the first record behind the cursor and its number, past whatever damage."""
    reader = Reader(STORAGE, paths, place)
    try:
        while True:
            records, corrupt = reader.read(1)
            if records:
                return records[0], reader.first_seq
            if not corrupt:
                return None, 0
    finally:
        reader.close()


def verify(path: str | os.PathLike[str], advance: Advance = uncounted) -> QueueVerification:
    """Read the whole queue at `path`: every checksum, the numbers, the cursor, the last line.

    `advance` is told how many more records are read.

    Raises:
        QueueUnavailableError: there is no queue, or it cannot be read.
    """
    paths = _paths(path)
    found = QueueVerification()
    try:
        refuse_what_is_no_file(paths.log)
        place = _check_cursor(paths, found)
        tail = _check_records(paths, place, found, advance)
        if place is not None and tail and place.next_seq > tail + 1:
            found.notes.append(
                f"{paths.cursor.name}: at {place.next_seq}, the log ends with {tail}: a power loss "
                "took records that were committed; the next one gets the cursor's number"
            )
        _check_end(paths, found)
        for _, void in segment.list_void(STORAGE, paths):
            found.notes.append(
                f"{void.name}: void as a whole (its sync had failed); not read, and removed soon"
            )
        _check_side_file(paths.quarantine, found)
    except OSError as error:
        raise _unreadable(path, error) from error
    return found


def _check_cursor(paths: QueuePaths, found: QueueVerification) -> Position | None:
    states = ["blank", "blank"]
    for _ in range(TRIES):  # a consumer may be writing one of them
        try:
            states = cursor.slot_states(head(STORAGE, paths.cursor, 2 * SLOT_BYTES))
        except FileNotFoundError:
            found.notes.append(f"{paths.cursor.name}: not there; nothing was ever consumed")
            return None
        if "damaged" not in states:
            break
    for number, state in enumerate(states):
        if state == "damaged":
            found.report(f"{paths.cursor.name}: slot {number} is damaged")
    return cursor.peek(STORAGE, paths.cursor)


def _check_records(
    paths: QueuePaths, place: Position | None, found: QueueVerification, advance: Advance
) -> int:
    committed = place.next_seq if place else 0
    reader = Reader(STORAGE, paths, None)
    try:
        while True:
            records, corrupt = reader.read(READ_RECORDS)
            if not records and not corrupt:
                return reader.position.next_seq - 1
            found.records += len(records)
            advance(len(records))
            if corrupt and (place := cursor.peek(STORAGE, paths.cursor)) is not None:
                committed = max(committed, place.next_seq)  # what was removed while this looked
            for line in corrupt:
                _judge(line, committed, found)
    finally:
        reader.close()


def _judge(line: CorruptLine, committed: int, found: QueueVerification) -> None:
    where = f"{line.file} at byte {line.offset}: {line.reason}"
    if line.raw:
        passed = " (the cursor has passed it)" if line.seq < committed else ""
        found.report(where + passed)
    elif line.seq < committed:
        found.notes.append(f"{where}; below the cursor, so nothing is lost")
    else:
        found.report(where)


def _check_end(paths: QueuePaths, found: QueueVerification) -> None:
    for _ in range(TRIES):  # a producer may have been writing it, and be done by now
        torn = _Lines(paths.log).torn
        if not torn:
            return
        where = f"{paths.log.name}: {torn} bytes behind the last newline"
        holder = current_holder(paths.producer_lock)
        if holder is not None:
            found.notes.append(f"{where}: being written by {holder}")
            return
    found.report(f"{where}: a torn line; the next producer ends it")


def _check_side_file(path: Path, found: QueueVerification) -> None:
    if not path.exists():
        return
    lines = _Lines(path)
    found.notes.append(f"{path.name}: {lines.intact} entries")
    damaged = lines.damaged + (lines.torn > 0)
    if damaged:
        found.report(f"{path.name}: {damaged} lines are damaged")


def _paths(path: str | os.PathLike[str]) -> QueuePaths:
    paths = QueuePaths.of(real_path(path))
    if not paths.folder.is_dir() or not (
        paths.log.exists() or paths.cursor.exists() or segment.list_sealed(STORAGE, paths)
    ):
        raise QueueUnavailableError(f"there is no queue at {path}; name its text file with --queue")
    return paths


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _last_seq(path: Path) -> int:
    try:
        return segment.sealed_last_seq(STORAGE, path) or 0
    except FileNotFoundError:
        return 0


class _Lines:
    """How many lines of a file are intact and damaged, and how many bytes its torn end has."""

    def __init__(self, path: Path) -> None:
        self.intact = self.damaged = self.torn = 0
        try:
            fd = STORAGE.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            self._count(fd)
        finally:
            STORAGE.close(fd)

    def _count(self, fd: int) -> None:
        size, end = STORAGE.stat_open(fd).st_size, 0
        for begin, lines in scan(partial(STORAGE.read, fd), 0, size, LONGEST_ENTRY_BYTES):
            end = begin
            for line in lines:
                if codec.decode(line) is not None:
                    self.intact += 1
                elif line.strip(b" "):
                    self.damaged += 1
                end += len(line) + 1
        self.torn = max(0, size - end)


def _unreadable(path: str | os.PathLike[str], error: OSError) -> QueueError:
    if isinstance(error, NoFileError):
        return QueueConfigurationError(f"{error}: name a file with --queue")
    if (blocked := in_the_way(error)) is not None:
        return QueueConfigurationError(f"cannot read the queue {path}: {blocked}")
    remedy = remedy_of(error, "is it there, and whole?")
    return QueueUnavailableError(f"cannot read the queue {path}: {error}; {remedy}")

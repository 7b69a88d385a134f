"""A text DB as everybody reads it who does not write it: without a lock, while it is in use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson

from DB.database_interface import DatabaseVerification, ResultDatabase, Row
from DB.errors import DatabaseConfigurationError, DatabaseUnavailableError, opened_to_read
from DB.results import InsertOutcome, Result
from DB.summary import RowTally, Summary
from DB.text.copying import copy_texts
from DB.text.index import IndexDamagedError
from DB.text.own_format import refuse_foreign
from DB.text.parts import open_in_turn, part_paths
from DB.text.verification import verify
from DurableText import codec
from DurableText.codec import CHUNK_BYTES, scan
from DurableText.files.links import real_path
from DurableText.lock import is_lock_of, shared_with
from DurableText.program.remedies import in_the_way, remedy_of
from DurableText.progress import Advance, uncounted
from DurableText.storage import STORAGE, NoFileError, Storage, refuse_what_is_no_file

# What lies beside the results, each with parts of its own.
CONFLICTS = "conflicts.txt"
SHADOWS = "shadow.txt"

# So much of the end is read first for the newest rows: more than a screen full of them.
TAIL_BYTES = 64 * 1024

# How a row ends: its checksum is the last of its fields, and a newline stands nowhere else.
ROW_END = b'"}\n'


class TextReader(ResultDatabase):
    """The DB in a text file, open to read. The file may come later, and may go."""

    path: Path
    shared = False

    def __init__(self, path: str | os.PathLike[str], *, storage: Storage = STORAGE) -> None:
        """Name the text; nothing is opened yet.

        Args:
            path: the text file; links are followed.
            storage: the layer for system calls; tests put faults there.
        """
        self.path = real_path(path)
        self.name = str(self.path)
        self._storage = storage
        self._counts: dict[Path, LineCount] = {}

    def insert(self, results: Sequence[Result]) -> InsertOutcome:
        """Refuse: see `ResultDatabase.insert`."""
        raise opened_to_read(self.name, len(results))

    def take_over(self, rows: Sequence[Row]) -> InsertOutcome:
        """Refuse: see `ResultDatabase.take_over`."""
        raise opened_to_read(self.name, len(rows))

    def insert_shadow(self, results: Sequence[Result]) -> InsertOutcome:
        """Refuse: see `ResultDatabase.insert_shadow`."""
        raise opened_to_read(self.name, len(results))

    def __iter__(self) -> Iterator[Row]:
        return self._rows_of(self.path)

    def iter_shadow(self) -> Iterator[Row]:
        """See `ResultDatabase.iter_shadow`."""
        self._require_own_side_files()
        return self._rows_beside(self._side_file(SHADOWS))

    def conflicts(self) -> Iterator[Row]:
        """See `ResultDatabase.conflicts`."""
        self._require_own_side_files()
        return self._rows_beside(self._side_file(CONFLICTS))

    def newest(self, number: int) -> list[Row]:
        """See `ResultDatabase.newest`."""
        found: list[Row] = []
        for path in reversed(self._texts(self.path)):
            with self._dropped_meanwhile(path):
                found += self._newest_of(path, number - len(found))
            if len(found) >= number:
                break
        return found

    def _newest_of(self, path: Path, number: int) -> list[Row]:
        """Read backwards, by pieces; a line that begins in an earlier piece waits for it."""
        found: list[Row] = []
        with self._opened(path) as fd:
            start = self._storage.stat_open(fd).st_size
            size, rest = TAIL_BYTES, b""
            while start > 0 and len(found) < number:
                end, start = start, max(0, start - size)
                rest, *lines = (self._storage.read(fd, end - start, start) + rest).split(b"\n")
                if start == 0:
                    lines.insert(0, rest)
                rest = rest[-codec.MAX_LINE_BYTES :]  # what is longer is no row
                rows = map(codec.decode, reversed(lines))
                found += [row for row in rows if row is not None]
                size = CHUNK_BYTES
        return found[:number]

    def count(self) -> int:
        """Return how many lines there are; each call reads only what is new since the last."""
        with self._errors("count"):
            texts = self._texts(self.path)
            counts = {path: self._counts.get(path) or LineCount(path) for path in texts}
            self._counts = counts
            number = 0
            for path, lines in counts.items():
                with self._dropped_meanwhile(path):
                    number += lines.count()
            return number

    def get(self, result_id: str) -> Row | None:
        """Search the whole text: the index is the writer's."""
        quoted = b'"id":' + orjson.dumps(result_id)
        for line in self._all_lines(self.path):
            if quoted in line:
                row = codec.decode(line)
                if row is not None and row.get("id") == result_id:
                    return row
        return None

    def summary(self, advance: Advance = uncounted) -> Summary:
        """See `ResultDatabase.summary`; corrupt lines are counted as such."""
        tally = RowTally()
        for line in self._all_lines(self.path):
            row = codec.decode(line)
            if row is not None:
                tally.add(row)
            elif line.strip():
                tally.corrupt += 1
            advance(1)
        return tally.finish()

    def verify(self, advance: Advance = uncounted) -> DatabaseVerification:
        """See `ResultDatabase.verify`; needs about 20 bytes a row of temporary disk."""
        self._require_own_side_files()
        self._refuse_foreign()
        return verify(self.path, self._side_file(CONFLICTS), self._side_file(SHADOWS), advance)

    def copy_to(self, folder: Path) -> None:
        """See `ResultDatabase.copy_to`."""
        self._require_own_side_files()
        copy_texts([self.path, self._side_file(CONFLICTS), self._side_file(SHADOWS)], folder)

    def check(self, timeout: float) -> None:  # noqa: ARG002 (a file answers at once)
        """See `ResultDatabase.check`."""
        with self._errors("read"), self._opened(self._texts(self.path)[-1]):
            pass

    def close(self) -> None:
        """Do nothing: whatever is read is opened for it."""

    def _refuse_foreign(self) -> None:
        """Raise if it is not a DB's text; one that is not there is for others to tell."""
        with (
            self._errors("read"),
            contextlib.suppress(FileNotFoundError),
            self._opened(self._texts(self.path)[0]) as fd,
        ):
            head = self._storage.read(fd, codec.HEAD_BYTES, 0)
            is_known = is_lock_of(self._side_file("lock"), self.path, self._storage)
            refuse_foreign(self.path, head, is_known=is_known)

    def _require_own_side_files(self) -> None:
        problem = shared_with(self._side_file("lock"), self.path, self._storage)
        if problem is not None:
            raise DatabaseConfigurationError(problem)
        lock = self._side_file("producer.lock")
        if is_lock_of(lock, self.path, self._storage):
            raise DatabaseConfigurationError(
                f"{self.path} is a queue's: name another file with --db; if that queue is gone, "
                f"remove {lock.name}, too"
            )

    def _side_file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.stem}.{name}")

    def _rows_beside(self, path: Path) -> Iterator[Row]:
        return self._rows_of(path) if self._texts(path)[0].exists() else iter(())

    def _rows_of(self, path: Path) -> Iterator[Row]:
        return (row for line in self._all_lines(path) if (row := codec.decode(line)) is not None)

    def _texts(self, path: Path) -> list[Path]:
        """Return the parts of a text, the oldest first, and the text, which comes last.

        Between two renames of a rotation, or after a kill there, that one may be missing.
        """
        parts = part_paths(path, self._storage)
        return parts if parts and not path.exists() else [*parts, path]

    def _all_lines(self, path: Path) -> Iterator[bytes]:
        """Yield the lines of all parts and of the text, each once, also across a rotation."""
        if path == self.path:
            self._refuse_foreign()
        known = self._known_end(path)  # before the text is opened: it may be another one then
        with contextlib.closing(open_in_turn(path, self._storage)) as files:
            while True:
                self._check_usable()
                with self._errors("read"):
                    file = next(files, None)
                if file is None:
                    return
                of_writer = known if file.number is None else None
                yield from self._lines_in(
                    file.fd, file.size if of_writer is None else min(file.size, of_writer)
                )

    @contextlib.contextmanager
    def _dropped_meanwhile(self, path: Path) -> Iterator[None]:
        """Let it pass that a part is no longer there; the text itself has to be."""
        try:
            with self._errors("read"):
                yield
        except DatabaseUnavailableError as error:
            if path == self.path or not isinstance(error.__cause__, FileNotFoundError):
                raise

    def _lines_in(self, fd: int, end: int) -> Iterator[bytes]:
        groups = scan(partial(self._storage.read, fd), 0, end)
        while True:
            self._check_usable()
            with self._errors("read"):
                _, lines = next(groups, (0, None))
            if lines is None:
                return
            yield from lines

    def _check_usable(self) -> None:
        """Do nothing: a reader holds nothing that could be closed."""

    def _known_end(self, path: Path) -> int | None:  # noqa: ARG002 (the writer asks which it is)
        """Return how far the text is known to be on the disk; None where nobody here knows."""
        return None

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        refuse_what_is_no_file(path)
        fd = self._storage.open(path, os.O_RDONLY)
        try:
            yield fd
        finally:
            self._storage.close(fd)

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except NoFileError as error:
            raise DatabaseConfigurationError(f"{error}: name a file with --db") from error
        except (OSError, IndexDamagedError) as error:  # an index that cannot be made, in the end
            if (blocked := in_the_way(error)) is not None:
                raise DatabaseConfigurationError(
                    f"cannot {action} the DB {self.name}: {blocked}"
                ) from error
            hint = (
                "has app_2 stored anything yet, and is it there?"
                if isinstance(error, FileNotFoundError)
                else remedy_of(
                    error, "is the folder there, writable, and is there room on the disk?"
                )
            )
            raise DatabaseUnavailableError(
                f"cannot {action} the DB {self.name}: {error}; {hint}"
            ) from error


class LineCount:
    """Counts the rows of a file that grows, reading only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._end = 0
        self._lines = 0

    def count(self) -> int:
        """Count; a file that was replaced or cut is counted anew."""
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._end:
                self._inode, self._end, self._lines = status.st_ino, 0, 0
            file.seek(self._end)
            while whole := _whole_lines(file.read(CHUNK_BYTES)):
                self._lines += whole.count(ROW_END)  # what took a torn row's place is blank
                self._end += len(whole)
                file.seek(self._end)
        return self._lines


def _whole_lines(chunk: bytes) -> bytes:
    return chunk[: chunk.rfind(b"\n") + 1]

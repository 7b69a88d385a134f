"""`ResultDatabase`: results by id, in a text file that a person can read.

What it promises:

* `insert` returns once the results are on the disk.
* An id is stored once. Inserting it again stores nothing and says so; with another label it is a
  conflict, which is kept in `db_for_app_2.conflicts.txt` and changes nothing.
* One process writes at a time. Its lock is the kernel's and ends with it.
* Memory stays bounded, whatever the number of rows.

The text's format and its recovery stand in `text_file`, the index in `index`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from DB.conflicts import Conflicts
from DB.errors import (
    DatabaseClosedError,
    DatabaseFormatError,
    DatabaseLockedError,
    DatabaseRecordError,
    DatabaseStorageError,
)
from DB.index import FINGERPRINT_BYTES, Index, IndexDamagedError, key_of, remove
from DB.text_file import TextFile
from Queue import codec
from Queue.lock import FileLock
from Queue.storage import STORAGE, Storage, make_durable_directory, refuse_what_is_no_file

logger = logging.getLogger(__name__)

DEFAULT_PATH = Path(__file__).resolve().parent / "db_for_app_2.txt"

STANDBY_SECONDS = 0.05
"""Pause between two looks at a lock that another process holds: how late a standby takes over."""

NO_WAIT_SECONDS = 0.05
"""With `wait=False`: one who only looks at the lock (`status`) is not mistaken for a holder."""

HEAD_BYTES = 64 * 1024
"""How much of the text is looked at to tell its format."""

SLOW_INDEX_BYTES = 256 << 20
"""Reading more than this into the index takes several seconds, which is said."""

RESERVED = ("crc", "stored_at")


@dataclass(frozen=True)
class InsertOutcome:
    """What became of the results of one `insert`, by id, in their order."""

    inserted_ids: tuple[str, ...] = ()
    duplicate_ids: tuple[str, ...] = ()
    conflict_ids: tuple[str, ...] = ()

    @property
    def inserted(self) -> int:
        """How many were stored."""
        return len(self.inserted_ids)

    @property
    def duplicates(self) -> int:
        """How many were stored already, with the same label."""
        return len(self.duplicate_ids)

    @property
    def conflicts(self) -> int:
        """How many were stored already, with another label."""
        return len(self.conflict_ids)


class ResultDatabase:
    """The DB in the text file `path`, open for writing. Any thread may use it.

    Args:
        path: the text file; side files lie beside it. Folders that are missing are made.
        wait: whether to stand by while another process holds the DB.
        timeout: seconds to wait at most; None waits without limit.
        stop: asked every 50 ms while waiting, for instance `threading.Event.is_set`; True ends it.
        storage: the layer for system calls; tests put faults there.

    Raises:
        DatabaseLockedError: another process holds it, and the waiting is over.
        DatabaseFormatError: the file is no DB of this format.
        DatabaseStorageError: the folder or its files cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        *,
        wait: bool = True,
        timeout: float | None = None,
        stop: Callable[[], bool] | None = None,
        storage: Storage = STORAGE,
    ) -> None:
        self.path = Path(path).absolute()
        self._storage = storage
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._closed = False
        self._unsure = False  # an insert has failed: what lies behind the known end is unknown
        with self._os_errors("open"):
            refuse_what_is_no_file(self.path)
            make_durable_directory(storage, self.path.parent)
            self._lock = FileLock(self._side_file("lock"), storage)
            try:
                self._wait_for_lock(NO_WAIT_SECONDS if not wait else timeout, wait, stop)
                self._open_files()
            except BaseException:
                self._lock.close()
                raise

    def insert(self, results: Sequence[Mapping[str, Any]]) -> InsertOutcome:
        """Stores results that are not stored yet; they are durable when it returns.

        Args:
            results: JSON objects with a text `id`; `stored_at` and `crc` belong to the DB.

        Returns:
            Which were stored, which were there already, and which were there with another label.

        Raises:
            DatabaseRecordError: one of them cannot be stored; nothing of this insert is written.
            DatabaseStorageError: the disk refused; inserting the same again is right.
            DatabaseClosedError: the DB is closed.
        """
        self._check_usable()
        bodies = self._encode(results)
        with self._mutex, self._os_errors("insert into"):
            self._check_usable()
            if self._unsure:
                self._recover()
            try:
                return self._insert(results, bodies)
            except (OSError, IndexDamagedError):
                self._unsure = True
                raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the stored results, oldest first; corrupt lines are passed over.

        Raises:
            DatabaseClosedError: the DB is closed, or was closed in the middle of it.
            DatabaseStorageError: it cannot be read.
        """
        self._check_usable()
        groups = self._text.scan(0, self._text.end)
        while True:
            with self._mutex, self._os_errors("read"):  # beside a `close` in another thread
                self._check_usable()
                _, lines = next(groups, (0, None))
            if lines is None:
                return
            for line in lines:
                row = codec.decode(line)
                if row is not None:
                    yield row

    def close(self) -> None:
        """Writes the index and gives the lock back; twice is fine."""
        if os.getpid() != self._pid:
            return  # a forked child: all of it is the parent's
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            try:
                self._index.close()
                self._text.close()
            finally:
                self._lock.close()

    def __enter__(self) -> ResultDatabase:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- inserting ---

    def _encode(self, results: Sequence[Mapping[str, Any]]) -> list[bytes]:
        bodies = []
        for number, result in enumerate(results):
            try:
                body = codec.encode(result, RESERVED)
            except codec.RecordError as error:
                raise _record_error(number, str(error)) from error
            result_id = result.get("id")
            if not isinstance(result_id, str) or not result_id:
                raise _record_error(number, f"its id must be a text, not {result_id!r}")
            bodies.append(body)
        return bodies

    def _insert(self, results: Sequence[Mapping[str, Any]], bodies: list[bytes]) -> InsertOutcome:
        keys = [key_of(result["id"]) for result in results]
        stored = self._stored_labels(results, keys)
        inserted, duplicates, conflicts = [], [], []
        rows, lines = [], []
        now = _timestamp()
        tail = b',"stored_at":"%b"' % now.encode()
        for result, body, key in zip(results, bodies, keys, strict=True):
            result_id, label = result["id"], _as_stored(result.get("label"))
            if result_id not in stored:
                stored[result_id] = label
                inserted.append(result_id)
                rows.append(key)
                lines.append(codec.frame(b"{" + body + tail))
            elif stored[result_id] == label:
                duplicates.append(result_id)
            else:
                conflicts.append(result_id)
                self._conflicts.add(result, stored[result_id], now)
        self._conflicts.write()
        if lines:
            self._append(lines, rows)
        return InsertOutcome(tuple(inserted), tuple(duplicates), tuple(conflicts))

    def _append(self, lines: list[bytes], keys: list[int]) -> None:
        offset = self._text.append(b"".join(lines))
        rows = []
        for line, key in zip(lines, keys, strict=True):
            rows.append((key, offset))
            offset += len(line)
        self._index.add(rows, offset, lines[-1][-FINGERPRINT_BYTES:])

    def _stored_labels(
        self, results: Sequence[Mapping[str, Any]], keys: list[int]
    ) -> dict[str, Any]:
        """Returns id and label of those results that are stored already.

        A key that the index knows is only a hint: the row is read, its checksum and its whole id
        decide. So an index that is ahead of the text cannot make a lost row look stored.
        """
        try:
            return self._look_up(results, keys)
        except IndexDamagedError as error:
            self._rebuild_index(str(error))
        return self._look_up(results, keys)

    def _look_up(self, results: Sequence[Mapping[str, Any]], keys: list[int]) -> dict[str, Any]:
        found = self._index.find(keys)
        stored: dict[str, Any] = {}
        if not found:
            return stored
        for result, key in zip(results, keys, strict=True):
            for offset in found.get(key, ()):
                row = self._row_at(offset, key)
                if row is not None and row["id"] == result["id"]:
                    stored[row["id"]] = row.get("label")
        return stored

    def _row_at(self, offset: int, key: int) -> dict[str, Any] | None:
        line = self._text.line_at(offset)
        row = None if line is None else codec.decode(line)
        if line is None or (row is not None and not _has_key(row, key)):
            raise IndexDamagedError(f"it names byte {offset}, where its row does not stand")
        if row is None:
            logger.warning(
                "%s: the row at byte %d is corrupt; it counts as lost", self.path, offset
            )
        return row

    # --- opening and recovering ---

    def _wait_for_lock(
        self, timeout: float | None, announce: bool, stop: Callable[[], bool] | None
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(deadline, STANDBY_SECONDS, stop, announce):
            raise DatabaseLockedError(
                f"{self.path} is held by {self._lock.holder()}; end that one, or use another file"
            )

    def _open_files(self) -> None:
        with contextlib.ExitStack() as opened:
            self._text = TextFile(self.path, self._storage)
            opened.callback(self._text.close)
            self._check_format(self._text.read(HEAD_BYTES, 0))
            self._conflicts = Conflicts(self._side_file("conflicts.txt"), self._storage)
            self._index = self._open_index()
            opened.callback(lambda: self._index.abandon())
            self._recover()
            opened.pop_all()

    def _check_format(self, head: bytes) -> None:
        whole_lines = head[: head.rfind(b"\n") + 1].strip()
        if whole_lines and b"\0" not in whole_lines and b'"crc":"' not in whole_lines:
            raise DatabaseFormatError(
                f"{self.path} is not a DB of this format (its lines have no crc); "
                "name another file with --db, or move this one away"
            )

    def _open_index(self) -> Index:
        path = self._side_file("index")
        try:
            index = Index(path)
        except IndexDamagedError as error:
            logger.warning("%s: %s; making it anew", path, error)
            remove(path)
            return Index(path)
        start = max(0, index.covered - FINGERPRINT_BYTES)
        if self._text.read(index.covered - start, start)[-len(index.fingerprint) :] != (
            index.fingerprint
        ):
            logger.warning("%s: it is of another text, or ahead of it; making it anew", path)
            index.discard()
            return Index(path)
        return index

    def _recover(self) -> None:
        """Takes in what the text has behind the end that the index knows."""
        start = self._index.covered
        self._text.recover(start)
        self._index_rows(start)
        self._unsure = False

    def _rebuild_index(self, reason: str) -> None:
        logger.warning("%s: the index is not to be trusted (%s); making it anew", self.path, reason)
        self._index.discard()
        self._index = Index(self._side_file("index"))
        self._index_rows(0)

    def _index_rows(self, start: int) -> None:
        """Reads the text from `start` to its end into the index."""
        size, corrupt, rows = self._text.end - start, 0, 0
        if size > SLOW_INDEX_BYTES:
            logger.warning("%s: reading %d MB into the index", self.path, size // 1_000_000)
        for begin, lines in self._text.scan(start, self._text.end):
            offset, found = begin, []
            for line in lines:
                row = codec.decode(line)
                if row is not None and isinstance(row.get("id"), str):
                    found.append((key_of(row["id"]), offset))
                elif line.strip():
                    corrupt += 1
                offset += len(line) + 1
            rows += len(found)
            self._index.add(
                found,
                offset,
                self._text.read(FINGERPRINT_BYTES, max(0, offset - FINGERPRINT_BYTES)),
            )
        if corrupt:
            logger.warning("%s: %d corrupt lines passed over; see `verify`", self.path, corrupt)
        if rows:
            logger.info("%s: %d rows read into the index", self.path, rows)

    def _side_file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.stem}.{name}")

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise DatabaseClosedError(
                f"{self.path}: this DB was opened by process {self._pid}, before a fork; "
                "only that process may use it"
            )
        if self._closed:
            raise DatabaseClosedError(f"{self.path}: the DB is closed")

    @contextlib.contextmanager
    def _os_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (OSError, IndexDamagedError) as error:  # an index that cannot be made, in the end
            raise DatabaseStorageError(
                f"cannot {action} the DB {self.path}: {error}; is the folder there, writable, "
                "and is there room on the disk?"
            ) from error


def _as_stored(label: object) -> object:
    """Returns a label as it reads in the text: NaN is null there, a tuple is a list."""
    return label if isinstance(label, str) else orjson.loads(orjson.dumps(label))


def _has_key(row: dict[str, Any], key: int) -> bool:
    result_id = row.get("id")
    return isinstance(result_id, str) and key_of(result_id) == key


def _record_error(number: int, problem: str) -> DatabaseRecordError:
    return DatabaseRecordError(f"result {number}: {problem}; nothing was stored", number)


def _timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""`ResultDatabase`: results by id, in a text file that a person can read.

What it promises:

* `insert` returns once the results are on the disk.
* An id is stored once. Inserting it again stores nothing and says so; with another label it is a
  conflict, which is kept in `db_for_app_2.conflicts.txt` and changes nothing.
* One process writes at a time. Its lock is the kernel's and ends with it.
* Memory stays bounded, whatever the number of rows.

The text's format and its recovery stand in `text_file`, the index in `index`, and how the two work
together in `indexed_text`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from DB.errors import (
    DatabaseClosedError,
    DatabaseFormatError,
    DatabaseLockedError,
    DatabaseRecordError,
    DatabaseStorageError,
)
from DB.text.conflicts import Conflicts
from DB.text.index import IndexDamagedError, key_of
from DB.text.indexed_text import IndexedText
from DurableText import codec
from DurableText.forks import Opener
from DurableText.lock import FileLock
from DurableText.moments import timestamp
from DurableText.storage import (
    STORAGE,
    Storage,
    make_durable_directory,
    real_path,
    refuse_what_is_no_file,
)

logger = logging.getLogger(__name__)

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "db_for_app_2.txt"

# Pause between two looks at a lock that another process holds: how late a standby takes over.
STANDBY_SECONDS = 0.05

# With `wait=False`: one who only looks at the lock (`status`) is not mistaken for a holder.
NO_WAIT_SECONDS = 0.05

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
        path: the text file; side files lie beside it. Folders that are missing are made, links
            followed.
        wait: whether to stand by while another process holds the DB.
        timeout: seconds to wait at most; None waits without limit.
        stop: asked every 50 ms while waiting, for instance `threading.Event.is_set`; True ends it.
        storage: the layer for system calls; tests put faults there.

    Raises:
        DatabaseLockedError: another process holds it, and the waiting is over.
        DatabaseFormatError: the file is no DB of this format, or has the name of a side file.
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
        self.path = real_path(path)
        if self.path in (self._side_file("index"), self._side_file("lock")):
            raise DatabaseFormatError(
                f"{self.path}: its index or its lock would have the same name; "
                "name another file with --db"
            )
        self._storage = storage
        self._opener = Opener(f"{self.path}: this DB", DatabaseClosedError)
        self._mutex = threading.Lock()
        self._closed = False
        self._unsure = False  # an insert was broken off: what lies behind the known end is unknown
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
        """Store results that are not stored yet; they are durable when it returns.

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
                self._rows.recover()
                self._unsure = False
            try:
                return self._insert(results, bodies)
            except BaseException:  # by Ctrl-C as well: the text may be ahead of what is known
                self._unsure = True
                raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the stored results, oldest first; corrupt lines are passed over.

        Raises:
            DatabaseClosedError: the DB is closed, or was closed in the middle of it.
            DatabaseStorageError: it cannot be read.
        """
        self._check_usable()
        groups = self._rows.scan()
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
        """Write the index and give the lock back; twice is fine."""
        if self._opener.is_another_process:
            return  # a forked child: all of it is the parent's
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            try:
                self._conflicts.close()
            finally:
                try:
                    self._rows.close()
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
        ids = [result["id"] for result in results]
        keys = [key_of(result_id) for result_id in ids]
        stored = {row["id"]: row.get("label") for row in self._rows.find(ids, keys)}
        inserted, duplicates, conflicts = [], [], []
        new_keys, lines = [], []
        now = timestamp()
        tail = b',"stored_at":"%b"' % now.encode()
        for result, body, key in zip(results, bodies, keys, strict=True):
            result_id, label = result["id"], _as_stored(result.get("label"))
            if result_id not in stored:
                stored[result_id] = label
                inserted.append(result_id)
                new_keys.append(key)
                lines.append(codec.frame(b"{" + body + tail))
            elif stored[result_id] == label:
                duplicates.append(result_id)
            else:
                conflicts.append(result_id)
                self._conflicts.add(result, stored[result_id], now)
        self._conflicts.write()
        if lines:
            self._rows.append(lines, new_keys)
        return InsertOutcome(tuple(inserted), tuple(duplicates), tuple(conflicts))

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
        self._rows = IndexedText(
            self.path, self._side_file("index"), self._storage, self._check_format
        )
        self._conflicts = Conflicts(self._side_file("conflicts.txt"), self._storage)

    def _check_format(self, head: bytes) -> None:
        whole_lines = head[: head.rfind(b"\n") + 1].strip()
        if whole_lines and b"\0" not in whole_lines and b'"crc":"' not in whole_lines:
            raise self._format_error("its lines have no crc")
        first = next(filter(codec.is_intact, whole_lines.split(b"\n")), b"")
        if first.startswith(codec.SEQ_PREFIX) and b',"stored_at":"' not in first:
            raise self._format_error("its lines are those of a queue")

    def _format_error(self, reason: str) -> DatabaseFormatError:
        return DatabaseFormatError(
            f"{self.path} is not a DB of this format ({reason}); "
            "name another file with --db, or move this one away"
        )

    def _side_file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.stem}.{name}")

    def _check_usable(self) -> None:
        self._opener.require()
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
    """Return a label as it reads in the text: NaN is null there, a tuple is a list."""
    return label if isinstance(label, str) else orjson.loads(orjson.dumps(label))


def _record_error(number: int, problem: str) -> DatabaseRecordError:
    return DatabaseRecordError(f"result {number}: {problem}; nothing was stored", number)

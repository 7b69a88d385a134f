"""`SqliteDatabase`: results by id in an SQLite file; several processes of one host write at once.

Each insert is one transaction: it takes SQLite's lock of writers, looks which ids are new, and
commits. The log is written ahead (WAL) and synced before each commit returns (`synchronous=FULL`),
so readers never wait and a power loss takes nothing. Folders on a network share are not for it, as
SQLite's documentation says: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from DB.busy import held_by, left_until
from DB.database_interface import DatabaseVerification, Row
from DB.errors import DatabaseReplacedError
from DB.results import (
    InsertOutcome,
    Result,
    answer_digest,
    answer_in,
    columns_of,
    encode,
    shadow_key,
    sort_out,
    split_times,
)
from DB.shared_database import SharedDatabase
from DB.sqlite.connection import Connect, open_file, translated
from DurableText.files.links import real_path
from DurableText.moments import timestamp
from DurableText.program.wording import counted
from DurableText.progress import Advance, uncounted
from DurableText.sqlite_copy import copy_sqlite
from DurableText.storage import STORAGE, make_durable_directory, refuse_what_is_no_file

logger = logging.getLogger(__name__)

# So long one writer waits for the others: SQLite's waiting is not fair, and its longest pause with
# four that never rest was 0.3 s.
BUSY_SECONDS = 10.0

# Rows that a reader takes at a time; no transaction stays open between two of them.
ROWS_A_READ = 1000

# Of SQLite's virtual machine: some milliseconds.
STEPS_BETWEEN_SIGNALS = 100_000


class SqliteDatabase(SharedDatabase):
    """The DB in an SQLite file."""

    path: Path

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        connect: Connect = sqlite3.connect,
    ) -> None:
        """Open the file; make it and its tables unless they are there.

        Args:
            path: the file; links are followed, folders that are missing are made.
            read_only: make and change nothing; the file may come later.
            busy_seconds: how long to wait for another writer.
            connect: as `sqlite3.connect`; tests put faults there.

        Raises:
            DatabaseConfigurationError: the file is none of SQLite's, or another program's.
            DatabaseUnavailableError: it cannot be read or written for now.
        """
        self.path = real_path(path)
        super().__init__(f"sqlite:///{self.path}", read_only=read_only)
        self._busy_seconds = busy_seconds
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        if not read_only:
            with self._errors("open"):
                refuse_what_is_no_file(self.path)
                make_durable_directory(STORAGE, self.path.parent)
                self._connection = self._open()

    # --- writing ---

    def insert(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert`."""
        return self._insert_all(results, None)

    def take_over(self, rows: Sequence[Row]) -> InsertOutcome:
        """See `ResultDatabase.take_over`."""
        results, times = split_times(rows)
        return self._insert_all(results, times)

    def insert_shadow(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert_shadow`."""
        self._check_writable(len(results))
        bodies = encode(results)
        keys = [shadow_key(result, number) for number, result in enumerate(results)]
        with self._writing() as connection:
            stored = {
                f"{result_id}\0{model}": answer_in(label, digest)
                for result_id, model, label, digest in connection.execute(
                    "SELECT id, model, label, digest FROM shadow_inferences "
                    "WHERE id IN (SELECT value FROM json_each(?))",
                    (orjson.dumps([result["id"] for result in results]).decode(),),
                )
            }
            found = sort_out(results, keys, stored)
            now = timestamp()
            connection.executemany(
                "INSERT INTO shadow_inferences (id, model, label, digest, stored_at, result) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (results[n]["id"], results[n]["model"], *columns_of(results[n]), now, text)
                    for n in found.new
                    for text in (_object(bodies[n]),)
                ],
            )
        return found.outcome

    def _insert_all(self, results: Sequence[Result], times: list[str] | None) -> InsertOutcome:
        self._check_writable(len(results))
        bodies = encode(results)
        ids = [result["id"] for result in results]
        with self._writing() as connection:
            stored = {
                result_id: answer_in(label, digest)
                for result_id, label, digest in connection.execute(
                    "SELECT id, label, digest FROM inferences "
                    "WHERE id IN (SELECT value FROM json_each(?))",
                    (orjson.dumps(ids).decode(),),
                )
            }
            found = sort_out(results, ids, stored)
            now = timestamp()
            connection.executemany(
                "INSERT INTO inferences (id, label, digest, stored_at, result) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        ids[n],
                        *columns_of(results[n]),
                        times[n] if times else now,
                        _object(bodies[n]),
                    )
                    for n in found.new
                ],
            )
            kept = [
                ids[number]
                for number, _ in found.conflicting
                if _keep(connection, results[number], _object(bodies[number]), now)
            ]
        for result_id in kept:
            logger.error("%s: %.200s is stored with another label; kept", self.name, result_id)
        return found.outcome

    # --- reading ---

    def __iter__(self) -> Iterator[Row]:
        return self._rows_of("inferences", "stored_at")

    def iter_shadow(self) -> Iterator[Row]:
        """See `ResultDatabase.iter_shadow`."""
        return self._rows_of("shadow_inferences", "stored_at")

    def conflicts(self) -> Iterator[Row]:
        """See `ResultDatabase.conflicts`."""
        return self._rows_of("inferences_conflicts", "refused_at", "stored_label")

    def newest(self, number: int) -> list[Row]:
        """See `ResultDatabase.newest`."""
        rows = self._read(
            "SELECT result, stored_at FROM inferences ORDER BY number DESC LIMIT ?", number
        )
        return [_row(result, stored_at=stored_at) for result, stored_at in rows]

    def count(self) -> int:
        """See `ResultDatabase.count`."""
        return int(self._read("SELECT count(*) FROM inferences")[0][0])

    def get(self, result_id: str) -> Row | None:
        """See `ResultDatabase.get`."""
        rows = self._read("SELECT result, stored_at FROM inferences WHERE id = ?", result_id)
        return _row(rows[0][0], stored_at=rows[0][1]) if rows else None

    def verify(self, advance: Advance = uncounted) -> DatabaseVerification:
        """Let SQLite check its pages and indexes, and compare each row with its id and label."""
        found = DatabaseVerification()
        for (problem,) in self._check_integrity():
            if problem != "ok":
                found.report(str(problem))
        for number, (result, result_id, label, digest) in self._scan(
            "inferences", "result, id, label, digest"
        ):
            row = _loads(result)
            if row is None or row.get("id") != result_id or columns_of(row) != (label, digest):
                found.report(f"row {number}: its columns are not those of its result")
            found.rows += 1
            advance(1)
            found.bytes += len(result)
        (conflicts,) = self._read("SELECT count(*) FROM inferences_conflicts")[0]
        if conflicts:
            found.notes.append(f"{counted(conflicts, 'conflict')} kept in inferences_conflicts")
        return found

    def check(self, timeout: float) -> None:
        """See `ResultDatabase.check`."""
        deadline = time.monotonic() + timeout
        with held_by(self._mutex, deadline, self.name), self._errors("insert into"):
            if self._read_only:
                self._usable().execute("SELECT count(*) FROM inferences")
                return
            with self._transaction(min(left_until(deadline), self._busy_seconds)):
                pass

    def copy_to(self, folder: Path) -> None:
        """See `ResultDatabase.copy_to`."""
        try:
            copy_sqlite(self.path, folder / self.path.name)
        except sqlite3.Error as error:
            raise translated(error, f"cannot copy the DB {self.name}: {error}") from error

    def close(self) -> None:
        """See `ResultDatabase.close`."""
        if self._opener.is_another_process:
            return
        with self._mutex:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    # --- the connection ---

    def _open(self) -> sqlite3.Connection:
        connection = open_file(
            self.path,
            self.name,
            read_only=self._read_only,
            busy_seconds=self._busy_seconds,
            connect=self._connect,
        )
        try:
            self._inode = self.path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction of this writer."""
        with (
            self._mutex,
            self._errors("insert into"),
            self._transaction(self._busy_seconds) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def _transaction(self, busy_seconds: float) -> Iterator[sqlite3.Connection]:
        """Run one transaction, waiting for so long for other writers."""
        connection = self._usable()
        self._check_place()
        is_usual = busy_seconds == self._busy_seconds
        if not is_usual:
            connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        finally:
            if not is_usual:
                connection.execute(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}")
        self._check_place()

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._mutex, self._errors("read"):
            connection = self._usable()
            return connection.execute(query, values).fetchall()

    def _check_integrity(self) -> list[tuple[Any, ...]]:
        with self._mutex, self._errors("read"):
            connection = self._usable()
            # All of it is one call, which takes minutes: so signals are looked for meanwhile.
            connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_SIGNALS)
            try:
                return connection.execute("PRAGMA integrity_check").fetchall()
            finally:
                connection.set_progress_handler(None, 0)

    def _usable(self) -> sqlite3.Connection:
        self._check_usable()
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _check_place(self) -> None:
        """Make sure that the file is the one that was opened: the file's name is the DB."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            inode = None
        if inode != self._inode:
            raise DatabaseReplacedError(
                f"{self.name} was removed or replaced while it was open; nothing of this insert "
                "may be taken as stored. Start again: what comes again is stored there"
            )

    def _rows_of(self, table: str, *columns: str) -> Iterator[Row]:
        for _, (result, *values) in self._scan(table, ", ".join(("result", *columns))):
            added = dict(zip(columns, values, strict=True))
            if "stored_label" in added:
                added["stored_label"] = orjson.loads(added["stored_label"])
            yield _row(result, **added)

    def _scan(self, table: str, columns: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield rows by number; a few at a time, so that no reader holds the log back."""
        last = 0
        while rows := self._read(
            f"SELECT number, {columns} FROM {table} WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
            last,
            ROWS_A_READ,
        ):
            for number, *values in rows:
                yield number, tuple(values)
            last = rows[-1][0]

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise translated(error, f"cannot {action} the DB {self.name}: {error}") from error


def _keep(connection: sqlite3.Connection, result: Result, text: str, now: str) -> bool:
    """Keep a conflict; tell whether it is new."""
    (stored,) = connection.execute(
        "SELECT result FROM inferences WHERE id = ?", (result["id"],)
    ).fetchone()
    stored_label = orjson.dumps(orjson.loads(stored).get("label")).decode()
    values = (result["id"], answer_digest(result), stored_label, now, text)
    done = connection.execute(
        "INSERT OR IGNORE INTO inferences_conflicts "
        "(id, digest, stored_label, refused_at, result) VALUES (?, ?, ?, ?, ?)",
        values,
    )
    return done.rowcount == 1


def _object(body: bytes) -> str:
    return f"{{{body.decode()}}}"


def _loads(text: str) -> Row | None:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _row(text: str, **added: object) -> Row:
    return {**(_loads(text) or {}), **added}

"""One engine behind the DB, and what can be done to it. The faults are as real as they can be."""

from __future__ import annotations

import contextlib
import errno
import signal
import sqlite3
import subprocess
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from DB import ResultDatabase, open_database
from DB.sqlite.database import SqliteDatabase
from DB.text.database import TextDatabase
from tests.engines.faulty_disk import FaultyDisk
from tests.engines.postgres_server import PostgresServer, find_or_skip
from tests.engines.under_test import EngineUnderTest, WorkerProcess
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
# How long an engine that hangs is waited for in these tests, in place of half a minute.
PATIENCE_SECONDS = 1.5


class DatabaseUnderTest(EngineUnderTest):
    """One engine that runs, and everything that was opened on it by the test at hand."""

    def open(self) -> ResultDatabase:
        """Open the test's DB for writing; closed at the end of the test."""
        return self._opened.enter_context(self._connect(self.place))

    def reader(self) -> ResultDatabase:
        """Open the test's DB to read."""
        return self._opened.enter_context(open_database(self.place, read_only=True))

    def writer(self, *arguments: object) -> Writer:
        """Start a process that inserts: see `worker`."""
        writer = Writer(self.place, *arguments)
        self._opened.callback(writer.kill)
        return writer

    def kill_engine(self, writer: Writer) -> list[str]:
        """Kill what does the writing, a server or the process that writes; then the process.

        Returns:
            What the process had still said.
        """
        return writer.kill()

    @abstractmethod
    def _connect(self, place: str) -> ResultDatabase:
        """Open a DB with the tests' patience."""


class InAFolder(DatabaseUnderTest):
    """An engine whose DB is a file."""

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=f"{self.name}-db-")

    def stop(self) -> None:
        self._folder.cleanup()

    @property
    def path(self) -> Path:
        """The test's file."""
        return Path(self._folder.name) / self._file

    def _new_place(self, name: str) -> str:
        self._file = f"{name}.db.txt"
        return self._url(self.path)

    def _url(self, path: Path) -> str:
        return str(path)

    def lose_everything(self) -> None:
        for path in self.path.parent.glob(f"{self.path.stem}.*"):
            path.unlink()

    def put_something_foreign(self) -> None:
        self.path.write_text('{"id": "a", "label": "7"}\n')

    def foreign_is_untouched(self) -> bool:
        return self.path.read_text() == '{"id": "a", "label": "7"}\n'


class TextUnderTest(InAFolder):
    """The text file, on a disk that can fail. A disk that hangs: a network share that gives up."""

    name = "text"

    def __init__(self) -> None:
        super().__init__()
        self._disk = FaultyDisk()

    def _connect(self, place: str) -> ResultDatabase:
        return TextDatabase(place, storage=self._disk, timeout=20)

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self._failing(errno.EIO)

    def hanging(self) -> contextlib.AbstractContextManager[None]:
        return self._failing(errno.ETIMEDOUT)

    def full(self) -> contextlib.AbstractContextManager[None]:
        return self._failing(errno.ENOSPC)

    def read_only(self) -> contextlib.AbstractContextManager[None]:
        return self._failing(errno.EROFS)

    def _failing(self, error: int) -> contextlib.AbstractContextManager[None]:
        return self._disk.failing(error, "write", "sync")


class SqliteUnderTest(InAFolder):
    """The SQLite file. Whoever else holds its lock of writers keeps it away."""

    name = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self._connections: list[sqlite3.Connection] = []

    def _url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    def _connect(self, place: str) -> ResultDatabase:
        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = sqlite3.connect(*arguments, **options)
            self._connections.append(connection)
            return connection

        path = place.removeprefix("sqlite:///")
        return SqliteDatabase(path, busy_seconds=PATIENCE_SECONDS, connect=connect)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        try:
            other.execute("BEGIN EXCLUSIVE")
            yield
        finally:
            other.close()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        code = (
            "import sqlite3, sys, time\n"
            "db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n"
            "db.execute('BEGIN IMMEDIATE'); print('ready', flush=True); time.sleep(1000)"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, self.path], stdout=subprocess.PIPE, text=True
        )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            holder.send_signal(signal.SIGSTOP)
            yield
        finally:
            holder.kill()
            holder.communicate()

    def full(self) -> contextlib.AbstractContextManager[None]:
        return self._pragma("max_page_count = 1", "max_page_count = 1000000000")

    def read_only(self) -> contextlib.AbstractContextManager[None]:
        return self._pragma("query_only = ON", "query_only = OFF")

    @contextlib.contextmanager
    def _pragma(self, begin: str, end: str) -> Iterator[None]:
        for connection in self._connections:
            connection.execute(f"PRAGMA {begin}")
        try:
            yield
        finally:
            for connection in self._connections:
                connection.execute(f"PRAGMA {end}")

    def end_test(self) -> None:
        super().end_test()
        self._connections.clear()


class PostgresUnderTest(DatabaseUnderTest):
    """A real PostgreSQL. A full disk is its own error, raised by a trigger."""

    name = "postgres"
    server: PostgresServer

    def start(self) -> None:
        find_or_skip()
        self.server = PostgresServer()
        self.server.start()

    def stop(self) -> None:
        self.server.close()

    def _new_place(self, name: str) -> str:
        self.table = name
        return self.server.url(table=name)

    def _connect(self, place: str) -> ResultDatabase:
        from DB.postgres.database import PostgresDatabase

        return PostgresDatabase(place, answer_seconds=PATIENCE_SECONDS)

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self.server.away()

    def hanging(self) -> contextlib.AbstractContextManager[None]:
        return self.server.hanging()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.server.run(
            f"CREATE FUNCTION full_{self.table}() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$"
        )
        self.server.run(
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {self.table} "
            f"EXECUTE FUNCTION full_{self.table}()"
        )
        try:
            yield
        finally:
            self.server.run(f"DROP FUNCTION full_{self.table} CASCADE")

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self._set_read_only("on")
        try:
            yield
        finally:
            self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        import psycopg

        url = self.server.url(options="-cdefault_transaction_read_only%3Doff")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")  # type: ignore[arg-type]
            connection.execute("SELECT pg_reload_conf()")

        def is_set() -> bool:
            with psycopg.connect(self.server.url()) as other:
                shown = other.execute("SHOW default_transaction_read_only").fetchone()
            return shown == (value,)

        wait_until(is_set, f"every backend has read that read-only is {value}")

    def kill_engine(self, writer: Writer) -> list[str]:
        self.server.kill()
        self.server.start()
        return [*writer.lines(1), *writer.kill()]

    def lose_everything(self) -> None:
        self.server.forget()
        self.server.start()

    def put_something_foreign(self) -> None:
        self.server.run(f"CREATE TABLE {self.table} (id text, label text)")
        self.server.run(f"INSERT INTO {self.table} VALUES ('a', '7')")

    def foreign_is_untouched(self) -> bool:
        tables = self.server.run(
            f"SELECT count(*) FROM pg_class WHERE relname LIKE '%{self.table}%' AND relkind = 'r'"
        )
        rows = self.server.run(f"SELECT * FROM {self.table}")
        return (tables, rows) == ([(1,)], [("a", "7")])


class Writer(WorkerProcess):
    """A process that inserts results and tells what was acknowledged: see `worker`."""

    def __init__(self, place: str, *arguments: object) -> None:
        super().__init__("tests.db_conformance.worker", place, *arguments)


ENGINES: dict[str, type[DatabaseUnderTest]] = {
    each.name: each for each in (TextUnderTest, SqliteUnderTest, PostgresUnderTest)
}

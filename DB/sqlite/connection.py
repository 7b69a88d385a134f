"""A connection to an SQLite file: how it is made, and its errors in our words, by their code."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from DB.errors import (
    DatabaseConfigurationError,
    DatabaseError,
    DatabaseRecordError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
)
from DB.sqlite import schema
from DurableText.program.process_limits import what_is_lacking
from DurableText.program.remedies import in_the_way, remedy_of, require_path_for_sqlite
from DurableText.storage import STORAGE, NoFileError

# Between two tries where SQLite does not wait by itself.
BUSY_PAUSE_SECONDS = 0.02

# SQLite's primary result codes: https://www.sqlite.org/rescode.html
PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
PRIMARY_CODE = 0xFF

Connect = Callable[..., sqlite3.Connection]


def open_file(
    path: Path, name: str, *, read_only: bool, busy_seconds: float, connect: Connect
) -> sqlite3.Connection:
    """Connect to a file; to write, make it and its tables unless they are there.

    Args:
        path: the file.
        name: of the DB, for errors.
        read_only: make and change nothing.
        busy_seconds: how long to wait for another writer.
        connect: as `sqlite3.connect`.

    Raises:
        sqlite3.Error, OSError: it cannot be opened: see `translated`.
        DatabaseConfigurationError: its tables are another program's.
    """
    require_path_for_sqlite(path)
    if not read_only and not path.exists():
        # SQLite would make it readable for everybody; its side files have the mode of this one.
        STORAGE.close(STORAGE.open(path, os.O_RDWR | os.O_CREAT))
    connection = connect(
        f"file:{quote(os.fsencode(path))}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_seconds,
    )
    try:
        if read_only:
            schema.check(connection, name)
        else:
            if schema.is_empty(connection):
                _write_ahead(connection, busy_seconds)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: down to the disk itself
            schema.make(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Set the log's mode. SQLite does not wait with this for others that are at the file."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return


def translated(error: sqlite3.Error | OSError, what: str) -> DatabaseError:
    """Return our error for one of SQLite's, by its code."""
    if (lacking := what_is_lacking(error)) is not None:
        return DatabaseUnavailableError(f"{what}; {lacking}")
    if isinstance(error, NoFileError):
        return DatabaseConfigurationError(f"{error}: name a file with --db")
    if (blocked := in_the_way(error)) is not None:
        return DatabaseConfigurationError(f"{what}; {blocked}")
    if isinstance(error, OSError):
        remedy = remedy_of(error, "is the folder there and writable?")
        return DatabaseUnavailableError(f"{what}; {remedy}")
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & PRIMARY_CODE
    if primary in PASSING:
        hint = (
            "has app_2 stored anything yet, and is the folder there and writable?"
            if primary == sqlite3.SQLITE_CANTOPEN
            else "is there room, may it be written, and is no other program holding it?"
        )
        return DatabaseUnavailableError(f"{what}; {hint}")
    if primary == sqlite3.SQLITE_NOTADB:
        return DatabaseConfigurationError(f"{what}; name another file with --db")
    if primary in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH):
        return DatabaseRecordError(what)
    if primary == sqlite3.SQLITE_ERROR:  # a table is gone
        return DatabaseReplacedError(f"{what}; has somebody changed its tables?")
    return DatabaseError(what)

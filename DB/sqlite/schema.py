"""The tables of an SQLite DB. Their version stands in the file's header, as SQLite provides for."""

from __future__ import annotations

import sqlite3

from DB.errors import DatabaseConfigurationError

# In the file's header, so that `file` and SQLite tell whose it is: "EDMS".
APPLICATION_ID = 0x45444D53
VERSION = 1

# `number` is the order of the inserts. A label that is a text stands in `label`; whatever else a
# result says stands as a digest, so that a repetition is told from a conflict without reading it.
TABLES = """
CREATE TABLE inferences (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, label TEXT, digest TEXT,
    stored_at TEXT NOT NULL, result TEXT NOT NULL
);
CREATE TABLE inferences_conflicts (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, digest TEXT NOT NULL, stored_label TEXT NOT NULL,
    refused_at TEXT NOT NULL, result TEXT NOT NULL, UNIQUE (id, digest)
);
CREATE TABLE shadow_inferences (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, model TEXT NOT NULL, label TEXT, digest TEXT,
    stored_at TEXT NOT NULL, result TEXT NOT NULL, UNIQUE (id, model)
);
"""


def make(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables unless they are there; in one transaction, beside others that do the same.

    Raises:
        DatabaseConfigurationError: the file is somebody else's, or of a newer version.
        sqlite3.Error: SQLite refuses.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if is_empty(connection):
            for statement in TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        check(connection, name)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether nobody has made anything in the file yet."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables and _header(connection, "application_id") == 0


def check(connection: sqlite3.Connection, name: str) -> None:
    """Make sure that the file is a DB of this version.

    Raises:
        DatabaseConfigurationError: it is not.
    """
    if _header(connection, "application_id") != APPLICATION_ID:
        raise DatabaseConfigurationError(
            f"{name} is an SQLite file of another program; name another one with --db"
        )
    version = _header(connection, "user_version")
    if version != VERSION:
        raise DatabaseConfigurationError(
            f"{name} has tables of version {version}, this program knows version {VERSION}: "
            "use the program that made them, or a newer one"
        )


def _header(connection: sqlite3.Connection, field: str) -> int:
    value: int = connection.execute(f"PRAGMA {field}").fetchone()[0]
    return value

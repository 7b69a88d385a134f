"""The tables of a DB in PostgreSQL: made by the program, and versioned.

For the table `inferences` there are `inferences_conflicts`, `inferences_schema` (its version) and
`shadow_inferences`. Ids compare byte by byte (`COLLATE "C"`): quicker, and the order in which all
writers sort them.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from DB.errors import DatabaseConfigurationError, DatabaseReplacedError
from DB.postgres.session import PostgresSession
from DB.postgres.url import PostgresUrl

VERSION = 1

# An id is a key of an index, and PostgreSQL takes about a third of a page for one.
MAX_KEY_BYTES = 2600

# A label that is a text stands in `label`; whatever else a result says stands as a digest, so that
# a repetition is told from a conflict without reading it. `place` is the place within its insert:
# with `stored_at` it gives the order. The index on `stored_at` is small, as all results of an
# insert share it; retention, newest rows and readers go by it.
_TABLES = """
CREATE TABLE {table} (
    id text COLLATE "C" PRIMARY KEY, label text, digest text, place integer NOT NULL,
    stored_at timestamptz NOT NULL, result json NOT NULL
);
CREATE INDEX ON {table} (stored_at);
CREATE TABLE {conflicts} (
    id text COLLATE "C" NOT NULL, digest text NOT NULL, stored_label json,
    place integer NOT NULL, refused_at timestamptz NOT NULL, result json NOT NULL,
    PRIMARY KEY (id, digest)
);
CREATE TABLE {shadow} (
    id text COLLATE "C" NOT NULL, model text COLLATE "C" NOT NULL, label text, digest text,
    place integer NOT NULL, stored_at timestamptz NOT NULL, result json NOT NULL,
    PRIMARY KEY (id, model)
);
CREATE INDEX ON {shadow} (stored_at);
CREATE TABLE {versions} (version integer NOT NULL, made_at timestamptz NOT NULL DEFAULT now());
INSERT INTO {versions} (version) VALUES ({version});
"""

# Read from the catalogue's rows: `to_regclass` answers from the session's cache, which does not
# hear of what others have made while this one waited for the lock.
_MADE_MEANWHILE = """
SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = %s AND nspname = coalesce(%s, current_schema())
"""


class Tables:
    """The tables' names, quoted."""

    def __init__(self, url: PostgresUrl) -> None:
        """Take the names from the URL."""
        self._schema = url.schema
        self.table = self._name(url.table)
        self.conflicts = self._name(f"{url.table}_conflicts")
        self.shadow = self._name(f"shadow_{url.table}")
        self.versions = self._name(f"{url.table}_schema")
        self.of_results = (self.table, self.conflicts, self.shadow)
        self.place_of_versions = (f"{url.table}_schema", url.schema)

    def sql(self, statement: str, **more: Composed | SQL | Literal) -> Composed:
        """Return a statement with the names in it."""
        return SQL(statement).format(
            table=self.table,
            conflicts=self.conflicts,
            shadow=self.shadow,
            versions=self.versions,
            **more,
        )

    def _name(self, name: str) -> Identifier:
        return Identifier(self._schema, name) if self._schema else Identifier(name)


def make(session: PostgresSession, tables: Tables, name: str) -> None:
    """Make the tables unless they are there; beside others that do the same.

    Raises:
        DatabaseConfigurationError: the table is somebody else's, of a newer version, or there is
            no right to make it.
        DatabaseUnavailableError: the server is away.
    """
    if check(session, tables, name):
        return
    try:
        with session.connected("make the tables of") as connection, connection.transaction():
            # One at a time: `IF NOT EXISTS` fails beside another one that has not committed yet.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_text(tables.table)])
            if not connection.execute(_MADE_MEANWHILE, tables.place_of_versions).fetchone():
                connection.execute(tables.sql(_TABLES, version=Literal(VERSION)))
    except DatabaseReplacedError as error:  # nothing was there to be replaced: no such schema
        raise DatabaseConfigurationError(str(error)) from error
    check(session, tables, name)


def check(session: PostgresSession, tables: Tables, name: str) -> bool:
    """Tell whether the tables are there.

    Raises:
        DatabaseConfigurationError: they are somebody else's, or of another version.
        DatabaseUnavailableError: the server is away.
    """
    with session.connected("read") as connection:
        # In this order: another one may be making both right now.
        made = _present(connection, tables.table)
        known = _present(connection, tables.versions)
        if made and not known:
            raise DatabaseConfigurationError(
                f"the table of the DB {name} is somebody else's: there is no "
                f"{_text(tables.versions)} beside it; name another table with ?table="
            )
        if not known:
            return False
        versions = _versions(connection, tables, name)
        gone = [_text(each) for each in tables.of_results if not _present(connection, each)]
    if versions != [(VERSION,)]:
        found = ", ".join(str(version) for (version,) in versions) or "none"
        raise DatabaseConfigurationError(
            f"the tables of the DB {name} have the version {found}, this program knows version "
            f"{VERSION}: use the program that made them, or a newer one"
        )
    if gone:
        raise DatabaseConfigurationError(
            f"of the tables of the DB {name} {', '.join(gone)} is gone: bring it back from a "
            f"backup, or drop {_text(tables.versions)} and what is left beside it, and a start "
            "makes all anew"
        )
    return True


def _versions(
    connection: psycopg.Connection[Any], tables: Tables, name: str
) -> list[tuple[int, ...]]:
    try:
        return connection.execute(tables.sql("SELECT version FROM {versions}")).fetchall()
    except psycopg.errors.UndefinedColumn as error:
        raise DatabaseConfigurationError(
            f"the table {_text(tables.versions)} beside the DB {name} is somebody else's: name "
            "another table with ?table="
        ) from error


def _present(connection: psycopg.Connection[Any], table: Identifier) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [_text(table)]).fetchone()
    return bool(row and row[0])


def _text(table: Identifier) -> str:
    return table.as_string()

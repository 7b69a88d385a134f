"""A connection to PostgreSQL that nothing makes wait for ever, and that is made anew when it broke.

Every statement is a transaction of its own, and nothing is kept in the session: no prepared
statements, no settings. So a pool in transaction mode (PgBouncer) may stand between.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import Composed

from DB.busy import left_until
from DB.errors import DatabaseConfigurationError, DatabaseError, DatabaseUnavailableError
from DB.postgres.errors import refused, translated
from DB.postgres.url import PostgresUrl
from DurableText.patience import Patience

# How long an answer may take. A server that hangs keeps its connections open, and the kernel goes
# on acknowledging for it: nobody else would end the waiting. A sync of a busy disk takes seconds.
ANSWER_SECONDS = 30.0

# How often a waiting call looks at its deadline and for signals.
INTERVAL_SECONDS = 0.1

READ_ONLY = "25006"
MIN_VERSION = 130000

# What a server must have to hold results, and for what is committed to survive a power loss.
_FITNESS = """
SELECT current_setting('server_version_num')::integer, current_setting('fsync'),
       current_setting('full_page_writes'), current_setting('synchronous_commit'),
       current_setting('server_encoding')
"""


class _Connection(psycopg.Connection[Any]):
    """Psycopg's connection, whose every wait has an end."""

    answer_seconds = ANSWER_SECONDS
    answer_by = math.inf

    def wait(
        self, gen: Any, interval: float = INTERVAL_SECONDS, timeout: float | None = None
    ) -> Any:
        """Wait as psycopg does, but not for ever."""
        if timeout is None:
            timeout = min(self.answer_seconds, left_until(self.answer_by))
        return super().wait(gen, interval, timeout)


class PostgresSession:
    """One connection. One thread at a time."""

    def __init__(self, url: PostgresUrl, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Name the server; the first statement connects.

        Args:
            url: where it is.
            answer_seconds: how long an answer may take.
        """
        self._url = url
        self._answer_seconds = answer_seconds
        self._answer_by = math.inf
        self._connection: _Connection | None = None
        self._before: Patience | None = None  # of a server that took us before

    def run(
        self, query: Composed, values: Sequence[object] = (), *, action: str = "use"
    ) -> list[tuple[Any, ...]]:
        """Run one statement, which is a transaction, and return its rows.

        Raises:
            DatabaseError: see `errors`. The connection is made anew by the next call where it
                broke; whether a statement that was under way took effect is not known then.
        """
        with self.connected(action) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def connected(self, action: str) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection; errors are translated, and what broke is closed."""
        connection = self._connection or self._connect()
        try:
            yield connection
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate == READ_ONLY or connection.broken:
                self.close()  # its state is unknown, or the primary is elsewhere by now
            raise translated(error, action, self._url.name) from error
        except BaseException:  # Ctrl-C in the middle of a statement
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()

    @contextlib.contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Let all answers be there by a deadline on the clock of `time.monotonic`, for a while."""
        self._answer_by = deadline
        self._apply_deadline()
        try:
            yield
        finally:
            self._answer_by = math.inf
            self._apply_deadline()

    def _apply_deadline(self) -> None:
        if self._connection is not None:
            self._connection.answer_seconds = self._answer_seconds
            self._connection.answer_by = self._answer_by

    def _connect(self) -> _Connection:
        connection = self._open()
        self._connection = connection
        self._apply_deadline()
        try:
            _require_fitness(connection, self._url.name)
        except psycopg.Error as error:
            self.close()
            raise translated(error, "connect to", self._url.name) from error
        except DatabaseError:
            self.close()
            raise
        if self._before is None:
            self._before = Patience()
        self._before.renew()
        return connection

    def _open(self) -> _Connection:
        """Connect. What looks like a refusal is asked for once more.

        A server that is just starting refuses, and takes connections by the time of the ping that
        tells whether it is there.
        """
        for last in (False, True):
            try:
                return _Connection.connect(
                    make_conninfo("", **self._url.conninfo), autocommit=True, prepare_threshold=None
                )
            except psycopg.Error as error:
                found = self._not_connected(error)
                if last or not isinstance(found, DatabaseConfigurationError):
                    raise found from error
        raise AssertionError("the last try returns or raises")

    def _not_connected(self, error: psycopg.Error) -> DatabaseError:
        found = refused(error, self._url.conninfo, self._url.name)
        if self._before is None:
            return found
        if not isinstance(found, DatabaseConfigurationError):
            self._before.renew()
            return found
        # It took us before: too many clients, a password that is being changed.
        passing = not self._before.is_over()
        return DatabaseUnavailableError(str(found)) if passing else DatabaseError(str(found))


def _require_fitness(connection: psycopg.Connection[Any], name: str) -> None:
    """Refuse a server that would lose what it has confirmed, or cannot hold it.

    Raises:
        DatabaseConfigurationError: it would, or it is too old.
        psycopg.Error: it does not answer.
    """
    row = connection.execute(_FITNESS).fetchone()
    assert row is not None
    version, fsync, full_pages, commit, encoding = row
    if version < MIN_VERSION:
        raise DatabaseConfigurationError(
            f"the server of the DB {name} is PostgreSQL {version // 10000}; "
            f"{MIN_VERSION // 10000} is the oldest that is known to work"
        )
    if encoding != "UTF8":
        raise DatabaseConfigurationError(
            f"the DB {name} has the encoding {encoding}, which has no word for most characters: "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    if "off" in (fsync, full_pages):
        raise DatabaseConfigurationError(
            f"the server of the DB {name} has fsync {fsync}, full_page_writes {full_pages}: a "
            "power loss would take results that it confirmed; set both to on in postgresql.conf"
        )
    if commit == "off":
        raise DatabaseConfigurationError(
            f"commits to the DB {name} are confirmed before they are on the disk "
            "(synchronous_commit is off): ALTER ROLE … SET synchronous_commit = on, or add "
            "?options=-csynchronous_commit%3Don to the URL"
        )

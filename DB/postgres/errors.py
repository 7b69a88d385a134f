"""PostgreSQL's errors in our words: by SQLSTATE or `PGconn.ping`, never by text.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import psycopg
from psycopg.pq import PGconn, Ping

from DB.errors import (
    DatabaseConfigurationError,
    DatabaseError,
    DatabaseRecordError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
)

# The record's fault: data exceptions, violated constraints, a limit of the server's.
RECORD_CLASSES = ("22", "23", "54")
# The server is another one than at the start, or somebody has changed it: no such table, column,
# database, schema.
REPLACED = ("42P01", "42703", "3D000", "3F000")
# It refuses for good: rights, features, syntax (a server that is too old), a wrong password.
CONFIGURATION_CLASSES = ("42", "0A", "28")

# What to do, where the server's own words do not say it.
HINTS = {
    "25006": "a standby? With several hosts in the URL, add target_session_attrs=read-write",
    "42501": "its owner can GRANT it to the role of the URL",
    "42P07": "it is somebody else's: name another table with ?table=",
    "3F000": "CREATE SCHEMA, or name another one with ?table=schema.table",
}

# So long a server is asked whether it is there.
PING_SECONDS = "2"


def translated(error: psycopg.Error, action: str, name: str) -> DatabaseError:
    """Return our error for one of PostgreSQL's. What is not known passes: it is tried again."""
    state = error.sqlstate or ""
    hint = f"; {HINTS[state]}" if state in HINTS else ""
    what = f"cannot {action} the DB {name}: {_words(error)}{hint}"
    if isinstance(error, psycopg.DataError) and not state:
        return DatabaseRecordError(f"{what}; nothing was stored")
    if state.startswith(RECORD_CLASSES):
        return DatabaseRecordError(f"{what} ({state}); nothing was stored")
    if state in REPLACED:
        return DatabaseReplacedError(
            f"{what} ({state}); is it another server, or has somebody removed the tables? A start "
            "makes them anew if all are gone"
        )
    if state.startswith(CONFIGURATION_CLASSES):
        return DatabaseConfigurationError(f"{what} ({state})")
    return DatabaseUnavailableError(f"{what} ({state or 'no answer'})")


def refused(error: psycopg.Error, conninfo: dict[str, str], name: str) -> DatabaseError:
    """Return our error for a connection that could not be made.

    Libpq has no code for it: only a ping tells a server that is away from one that refuses.
    """
    what = f"cannot connect to the DB {name}: {_words(error)}"
    asked_nobody = isinstance(error, psycopg.ProgrammingError)  # psycopg knows that it is wrong
    found = Ping.NO_ATTEMPT if asked_nobody else ping(conninfo)
    if found == Ping.NO_ATTEMPT:
        return DatabaseConfigurationError(
            f"{what}; look at the URL's options and libpq's variables"
        )
    if found == Ping.NO_RESPONSE:  # a server without TLS gives none to a client that wants it
        found = ping({**conninfo, "sslmode": "disable", "gssencmode": "disable"})
    if found == Ping.OK:
        return DatabaseConfigurationError(
            f"{what}; the server is there and refuses: look at user, database, TLS, the password "
            "(PGPASSWORD, PGPASSFILE or a service) and pg_hba.conf"
        )
    return DatabaseUnavailableError(f"{what}; does the server run, and is it reached from here?")


def ping(conninfo: dict[str, str]) -> Ping:
    """Ask whether a server takes connections; no password is needed."""
    asked = {**conninfo, "connect_timeout": PING_SECONDS}
    return Ping(PGconn.ping(psycopg.conninfo.make_conninfo("", **asked).encode()))


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split())

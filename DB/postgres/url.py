"""The URL of a DB in PostgreSQL: `postgresql://user@host:5432,other:5432/name?table=inferences&…`.

All of it but `table` is libpq's own: several hosts, `target_session_attrs`, `sslmode`, `service`.
https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from DB.errors import DatabaseConfigurationError
from DurableText.program.urls import holds_password

DEFAULT_TABLE = "inferences"

# A name of PostgreSQL has 63 bytes at most; the longest that we make of a table's is
# `<table>_conflicts_pkey`. A schema may stand before it.
TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,47}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}")

# What libpq would take a secret from, and what `ps` and logs would show.
SECRETS = ("password", "sslpassword", "oauth_client_secret")

# Where the user has not said how long: a host that does not answer must not hold the others up.
CONNECT_SECONDS = 5


@dataclass(frozen=True)
class PostgresUrl:
    """Where the DB is.

    Attributes:
        conninfo: what libpq is given, without a password.
        schema: the schema of the table; None for the first of the search path.
        table: its name.
        name: for logs and errors.
    """

    conninfo: dict[str, str] = field(repr=False)
    schema: str | None
    table: str
    name: str


def parse(url: str) -> PostgresUrl:
    """Take a URL apart. No error repeats the URL as it is: there may be a password in it.

    Raises:
        DatabaseConfigurationError: it is wrong, or holds a password.
    """
    if holds_password(url):
        raise _with_password()
    scheme, _, rest = url.partition("://")
    try:
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=False)
    except ValueError as error:
        raise DatabaseConfigurationError(f"the DB's URL cannot be read: {error}") from error
    table = dict(query).get("table", DEFAULT_TABLE)
    if not TABLE.fullmatch(table):
        raise DatabaseConfigurationError(
            f"the DB's URL names the table {table!r}: letters, digits and _, at most 48 of them, "
            "with a schema of the same kind before it if need be: ?table=app.inferences"
        )
    schema, _, name = table.rpartition(".")
    conninfo = _conninfo(scheme, rest, [pair for pair in query if pair[0] != "table"])
    shown = _shown(conninfo, table)
    return PostgresUrl(conninfo, schema or None, name, shown)


def _conninfo(scheme: str, rest: str, query: list[tuple[str, str]]) -> dict[str, str]:
    plain = f"{scheme}://{rest.partition('?')[0]}" + (f"?{urlencode(query)}" if query else "")
    try:
        found = conninfo_to_dict(plain)
    except psycopg.Error as error:
        raise DatabaseConfigurationError(f"the DB's URL is wrong: {error}".strip()) from error
    conninfo = {name: str(value) for name, value in found.items() if value is not None}
    if not conninfo.keys().isdisjoint(SECRETS):  # libpq finds it where nobody else would
        raise _with_password()
    ports = conninfo.get("port", "").split(",")
    if not all(port.isdecimal() for port in ports if port):
        raise DatabaseConfigurationError(
            "the DB's URL cannot be read: behind each host stands a port, a number, or nothing; a "
            "password belongs into PGPASSWORD"
        )
    conninfo.setdefault("connect_timeout", str(CONNECT_SECONDS))
    conninfo.setdefault("fallback_application_name", "event-driven-model-serving")
    conninfo["client_encoding"] = "UTF8"  # as the JSON that is sent, whatever the person's is
    return conninfo


def _shown(conninfo: dict[str, str], table: str) -> str:
    user = f"{conninfo['user']}@" if "user" in conninfo else ""
    ports = conninfo.get("port", "").split(",")
    hosts = conninfo.get("host", conninfo.get("hostaddr", "")).split(",")
    pairs = [
        f"{host}:{ports[min(number, len(ports) - 1)]}".rstrip(":")
        for number, host in enumerate(hosts)
    ]
    service = f"&service={conninfo['service']}" if "service" in conninfo else ""
    database = conninfo.get("dbname", "")
    return f"postgresql://{user}{','.join(pairs)}/{database}?table={table}{service}"


def _with_password() -> DatabaseConfigurationError:
    return DatabaseConfigurationError(
        "the DB's URL holds a password, which `ps` and logs would show: take it out, and set "
        "PGPASSWORD, or PGPASSFILE to a file with it (chmod 600), or name a service of "
        "pg_service.conf with ?service="
    )

"""What can be wrong with the URL, the server and the rights: told by name, and exit code 2."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

import DB.postgres.session
from DB import (
    DatabaseConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    open_database,
)
from DB.errors import DatabasePassingError
from DB.postgres.url import parse
from DurableText import patience
from tests.engines.commands import assert_says_what_to_install, imported, outcome_of
from tests.engines.postgres_server import HOST, PostgresServer
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-7f3a"


def code_of(url: str, *command: str, **environment: str) -> tuple[int, str]:
    """Run a command on a DB; return its exit code and all of its output."""
    return outcome_of(*(command or ("-m", "DB", "summary")), "--db", url, **environment)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@a:1,b:2/db?table=x",
        f"postgresql://:{SECRET}@/db",
        f"postgresql://me@host/db?password={SECRET}",
        f"postgresql://me@host/db?sslmode=require&PASSWORD={SECRET}",
        f"postgresql://me@host/db?sslpassword={SECRET}",
        f"postgresql://me:pa/{SECRET}@host/db",
        f"postgresql://me:{SECRET}/pa@host/db",
        f"postgresql://me:{SECRET}#x@host/db",
        f"postgresql://me:{SECRET}?x@host/db",
        f"postgresql://me%3A{SECRET}@host/db",
        f"postgresql://host/db;password={SECRET}",
        f"postgresql://host/db?options=-cx.password%3D{SECRET}",
        f"postgresql://host:{SECRET}/db",
    ],
)
def test_a_password_in_the_url_is_refused_and_shown_nowhere(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DatabaseConfigurationError, match="PGPASSWORD") as caught:
        open_database(url)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert SECRET not in told.replace(url, "")  # the line of this test's own source has none
    code, output = code_of(url)
    assert (code, SECRET in output) == (2, False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://host:port/db", "port"),
        ("postgresql://host/db?nonsense=1", "nonsense"),
        ("postgresql://host/db?table=x;drop", "x;drop"),
        ("postgresql://host/db?table=", "table ''"),
        (f"postgresql://host/db?table={'x' * 49}", "48"),
        (f"postgresql://{HOST}/db?sslmode=perhaps", "sslmode"),
        ("postgresql://[::1/db", "Invalid IPv6 URL"),
    ],
)
def test_a_wrong_url_is_told(url: str, said: str) -> None:
    with pytest.raises(DatabaseConfigurationError, match=said):
        open_database(url)


def test_all_of_libpq_s_own_options_pass_and_the_name_shows_where_it_is() -> None:
    found = parse(
        "postgresql://me@a:5433,b/db?table=app.results&target_session_attrs=read-write"
        "&connect_timeout=3&options=-cstatement_timeout%3D5s"
    )
    assert found.name == "postgresql://me@a:5433,b/db?table=app.results"
    assert (found.schema, found.table) == ("app", "results")
    assert found.conninfo["target_session_attrs"] == "read-write"
    assert found.conninfo["options"] == "-cstatement_timeout=5s"
    assert found.conninfo["connect_timeout"] == "3"


def test_a_server_that_is_away_is_trouble_that_passes() -> None:
    with pytest.raises(DatabaseUnavailableError, match="does the server run"):
        open_database(f"postgresql://postgres@{HOST}:{free_port()}/postgres")


def test_app_2_waits_for_a_server_as_for_the_broker_and_then_says_what_to_do(
    tmp_path: Path,
) -> None:
    url = f"postgresql://postgres@{HOST}:{free_port()}/postgres"
    code, output = code_of(
        url, "app_2.py", "--broker", "local", "--wait-for-broker", "5",
        LOCAL_BROKER_PATH=str(tmp_path),
    )  # fmt: skip
    assert code == 1
    assert "waiting for it for 5 seconds" in output
    assert "does the server run" in output
    assert "Traceback" not in output


@pytest.fixture
def guarded(postgres: PostgresServer, libpq: Callable[..., None]) -> PostgresServer:
    """A server with roles, passwords and a database of their own."""
    if not postgres.run("SELECT 1 FROM pg_roles WHERE rolname = 'owner'"):
        postgres.run("ALTER SYSTEM SET password_encryption = 'scram-sha-256'")
        for role in ("owner", "writer", "stranger"):
            postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
        postgres.run("CREATE DATABASE guarded OWNER owner")
        postgres.run("REVOKE ALL ON SCHEMA public FROM public", "guarded")
        postgres.run("GRANT ALL ON SCHEMA public TO owner", "guarded")
        postgres.run("GRANT USAGE ON SCHEMA public TO writer, stranger", "guarded")
        postgres.access_rules(
            f"host all postgres {HOST}/32 trust",
            f"hostssl guarded stranger {HOST}/32 scram-sha-256",
            f"host guarded stranger {HOST}/32 reject",
            f"host guarded all {HOST}/32 scram-sha-256",
        )
    return postgres


def test_the_password_comes_from_the_environment_or_a_file(
    guarded: PostgresServer, libpq: Callable[..., None], tmp_path: Path
) -> None:
    url = guarded.url("guarded", "owner", table="by_password")
    libpq(PGPASSWORD=SECRET)
    with open_database(url) as db:
        db.insert([{"id": "a", "label": "7"}])
        assert SECRET not in repr(db) + repr(vars(db))
    libpq(PGPASSWORD="")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{HOST}:{guarded.port}:guarded:owner:{SECRET}\n")
    passwords.chmod(0o600)
    libpq(PGPASSFILE=str(passwords))
    with open_database(url, read_only=True) as db:
        assert db.count() == 1


@pytest.mark.parametrize("password", ["wrong-7f3a", ""])
def test_a_wrong_password_is_told_and_not_shown(
    guarded: PostgresServer, libpq: Callable[..., None], password: str
) -> None:
    libpq(PGPASSWORD=password, PGPASSFILE="/dev/null")
    url = guarded.url("guarded", "owner")
    with pytest.raises(DatabaseConfigurationError, match="the server is there and refuses") as told:
        open_database(url)
    assert not password or password not in str(told.value)
    code, output = code_of(url)
    assert (code, "Traceback" in output) == (2, False)
    assert not password or password not in output


def test_a_password_that_is_changed_in_mid_run_is_waited_for_and_then_told(
    guarded: PostgresServer, libpq: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    libpq(PGPASSWORD=SECRET, PGPASSFILE="/dev/null")
    with open_database(guarded.url("guarded", "owner", table="changed")) as db:
        db.insert([{"id": "a", "label": "7"}])
        guarded.kill()
        guarded.start()
        libpq(PGPASSWORD="changed")
        with pytest.raises(DatabaseUnavailableError):  # the broken connection, perhaps
            db.insert([{"id": "b", "label": "7"}])
        with pytest.raises(DatabaseUnavailableError, match="refuses"):
            db.insert([{"id": "b", "label": "7"}])
        monkeypatch.setattr(patience, "REFUSED_LOGIN_SECONDS", 0.0)
        with pytest.raises(DatabaseError, match="refuses") as told:
            db.insert([{"id": "b", "label": "7"}])
        assert not isinstance(told.value, (DatabasePassingError, DatabaseConfigurationError))
        libpq(PGPASSWORD=SECRET)
        assert db.insert([{"id": "b", "label": "7"}]).inserted_ids == ("b",)


def test_a_database_or_role_that_is_not_there_is_told(
    guarded: PostgresServer, libpq: Callable[..., None]
) -> None:
    libpq(PGPASSWORD=SECRET)
    for url in (guarded.url("nowhere"), guarded.url("guarded", "nobody_knows")):
        with pytest.raises(DatabaseConfigurationError, match="refuses"):
            open_database(url)
        assert code_of(url)[0] == 2


def test_tls_that_one_side_wants_and_the_other_has_not_is_told(
    guarded: PostgresServer, libpq: Callable[..., None]
) -> None:
    libpq(PGPASSWORD=SECRET)
    required = guarded.url("guarded", "owner", sslmode="require")
    refused = guarded.url("guarded", "stranger", sslmode="disable")
    for url in (required, refused):
        with pytest.raises(DatabaseConfigurationError, match="TLS"):
            open_database(url)


def test_a_role_that_may_not_make_tables_is_told_and_works_once_they_are_made_for_it(
    guarded: PostgresServer, libpq: Callable[..., None]
) -> None:
    libpq(PGPASSWORD=SECRET)
    writer = guarded.url("guarded", "writer", table="rights")
    with pytest.raises(DatabaseConfigurationError, match="42501"):
        open_database(writer)
    open_database(guarded.url("guarded", "owner", table="rights")).close()
    guarded.run("GRANT SELECT ON rights, rights_conflicts, rights_schema TO writer", "guarded")
    with pytest.raises(DatabaseConfigurationError, match="GRANT SELECT, INSERT"):
        open_database(writer)
    guarded.run("GRANT INSERT ON rights, rights_conflicts TO writer", "guarded")
    with open_database(writer) as db:
        assert db.insert([{"id": "a", "label": "7"}]).inserted == 1
        guarded.run("REVOKE INSERT ON rights FROM writer", "guarded")
        with pytest.raises(DatabaseConfigurationError, match="42501"):
            db.insert([{"id": "b", "label": "7"}])


def test_tables_of_a_newer_version_are_refused(postgres: PostgresServer, url: str) -> None:
    open_database(url).close()
    table = parse(url).table
    postgres.run(f"UPDATE {table}_schema SET version = 2")
    for read_only in (False, True):
        with (
            pytest.raises(DatabaseConfigurationError, match=r"version 2, .*newer"),
            open_database(url, read_only=read_only) as db,
        ):
            db.count()
    assert code_of(url)[0] == 2


@pytest.mark.parametrize("gone", ["{}", "{}_conflicts", "shadow_{}"])
def test_a_start_that_finds_tables_missing_says_what_to_do(
    postgres: PostgresServer, url: str, gone: str
) -> None:
    table = parse(url).table
    with open_database(url) as db:
        postgres.run(f"DROP TABLE {gone.format(table)}")
        with pytest.raises(DatabaseConfigurationError, match="from a backup, or drop"):
            db.check(5.0)
    for read_only in (False, True):
        with (
            pytest.raises(DatabaseConfigurationError, match=f'"{gone.format(table)}" is gone'),
            open_database(url, read_only=read_only) as db,
        ):
            db.count()
    assert code_of(url)[0] == 2


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE {} (a int)", "somebody else's: there is no"),
        ("CREATE VIEW {} AS SELECT 1 AS a", "somebody else's: there is no"),
        ("CREATE TABLE {}_conflicts (a int)", "it is somebody else's: name another"),
        ("CREATE TABLE shadow_{} (a int)", "it is somebody else's: name another"),
    ],
)
def test_what_is_somebody_else_s_is_refused_and_left_alone(
    postgres: PostgresServer, url: str, statement: str, said: str
) -> None:
    postgres.run(statement.format(parse(url).table))
    with pytest.raises(DatabaseConfigurationError, match=said):
        open_database(url)
    assert postgres.run(
        f"SELECT count(*) FROM pg_class WHERE relname ~ '{parse(url).table}(_|$)' "
        "AND relkind IN ('r', 'v')"
    ) == [(1,)]


def test_a_table_of_versions_that_is_somebody_else_s_is_refused(
    postgres: PostgresServer, url: str
) -> None:
    postgres.run(f"CREATE TABLE {parse(url).table}_schema (a text)")
    with pytest.raises(DatabaseConfigurationError, match=r"_schema.* is somebody else's"):
        open_database(url)


def test_a_schema_that_is_not_there_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseConfigurationError, match=r"CREATE SCHEMA.*3F000"):
        open_database(postgres.url(table="nowhere.results"))


def test_a_server_that_refuses_as_it_has_just_started_is_asked_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = DB.postgres.session._Connection.connect
    refusals = [psycopg.OperationalError("the database system is not yet accepting connections")]

    def connect_later(*arguments: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return connect(*arguments, **options)

    monkeypatch.setattr(DB.postgres.session._Connection, "connect", connect_later)
    open_database(url).close()
    assert not refusals


def test_an_option_that_nobody_can_use_is_told_as_one(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseConfigurationError, match="look at the URL's options"):
        open_database(postgres.url(connect_timeout="soon"))


def test_a_server_that_is_too_old_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DB.postgres.session, "MIN_VERSION", 990000)
    with pytest.raises(DatabaseConfigurationError, match="99 is the oldest"):
        open_database(url)


def test_a_server_that_would_lose_what_it_confirms_is_refused(
    postgres: PostgresServer, url: str
) -> None:
    with pytest.raises(DatabaseConfigurationError, match="synchronous_commit"):
        open_database(f"{url}&options=-csynchronous_commit%3Doff")
    postgres.run("ALTER SYSTEM SET fsync = off")
    postgres.run("SELECT pg_reload_conf()")
    try:
        with pytest.raises(DatabaseConfigurationError, match="fsync off"):
            while True:  # until the server has read it
                open_database(url).close()
    finally:
        postgres.run("ALTER SYSTEM RESET fsync")
        postgres.run("SELECT pg_reload_conf()")


def test_a_database_that_cannot_hold_every_character_is_refused(postgres: PostgresServer) -> None:
    postgres.run("DROP DATABASE IF EXISTS latin")
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(DatabaseConfigurationError, match=r"LATIN1.*UTF8"):
        open_database(postgres.url("latin"))


def test_a_client_encoding_of_the_person_s_own_changes_nothing(
    url: str, libpq: Callable[..., None]
) -> None:
    libpq(PGCLIENTENCODING="LATIN1")
    for each in (url, f"{url}&client_encoding=LATIN1"):
        with open_database(each) as db:
            db.insert([{"id": "七", "label": "ä七"}])
            row = db.get("七")
            assert row is not None
            assert row["label"] == "ä七"


def test_without_the_client_a_line_says_what_to_install() -> None:
    assert_says_what_to_install(
        "psycopg", "DB", "summary", "--db", "postgresql://host/db", extra="postgres"
    )


def test_nothing_of_sql_is_imported_for_a_text_file(tmp_path: Path) -> None:
    statement = "from DB import open_database; open_database(sys.argv[1]).close()"
    names = ("psycopg", "DB.sqlite", "DB.text")
    assert imported(names, "app_2", statement, tmp_path / "db.txt") == ["DB.text"]

"""What PostgreSQL does to its clients, and what becomes of the results."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from DB import DatabasePassingError, DatabaseUnavailableError, open_database
from DB.postgres import schema
from DB.postgres.database import PostgresDatabase
from DB.postgres.url import parse
from tests.db_conformance.stories import ids_of, numbered, stored_once, until_it_works
from tests.engines.postgres_server import (
    HOST,
    SUPERUSER,
    PostgresServer,
    binary,
    namespaces_work,
)
from tests.pipeline.conftest import embedded_broker, pipeline  # noqa: F401 (fixtures)
from tests.pipeline.runner import Pipeline
from tests.servers import free_port
from tests.waiting import wait_until


def test_a_backend_that_an_administrator_ends_is_one_passing_error(
    postgres: PostgresServer, url: str
) -> None:
    with open_database(url) as db:
        db.insert(numbered(3))
        for pid in postgres.backends():
            postgres.run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DatabaseUnavailableError, match=r"57P01|no answer"):
            db.insert(numbered(5))
        assert db.insert(numbered(5)).inserted_ids == ("3", "4")


def test_a_killed_backend_takes_all_others_with_it_and_nothing_is_lost(
    postgres: PostgresServer, url: str
) -> None:
    with open_database(url) as db:
        db.insert(numbered(3))
        os.kill(postgres.backends()[0], 9)
        outcome = until_it_works(lambda: db.insert(numbered(5)))
        assert outcome.inserted + outcome.duplicates == 5
        assert ids_of(db) == ["0", "1", "2", "3", "4"]


def test_a_statement_that_takes_too_long_for_the_server_passes(url: str) -> None:
    with (
        open_database(url) as holder,
        open_database(f"{url}&options=-clock_timeout%3D300") as db,
    ):
        holder.insert(numbered(1))
        with holder._session.connected("lock") as connection, connection.transaction():  # type: ignore[attr-defined]
            connection.execute(f"LOCK TABLE {parse(url).table} IN EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailableError, match="55P03"):
                db.insert(numbered(2))
        assert db.insert(numbered(2)).inserted == 1


def test_a_serializable_server_is_waited_out(url: str) -> None:
    serializable = f"{url}&options=-cdefault_transaction_isolation%3Dserializable"
    with open_database(serializable) as one, open_database(serializable) as other:
        for start in range(0, 300, 20):
            threads = [
                threading.Thread(
                    target=lambda db=db, start=start: until_it_works(
                        lambda: db.insert(numbered(40, start=start))
                    )
                )
                for db in (one, other)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert stored_once(one, map(str, range(320)))


def test_after_repetitions_only_what_is_new_is_sent(url: str) -> None:
    sent: list[str] = []

    class Listening(PostgresDatabase):
        def _run(self, statement: str, value: Any) -> list[tuple[Any, ...]]:
            sent.append(statement.split()[0])
            return super()._run(statement, value)

    with Listening(url) as db:
        db.insert(numbered(10))
        assert db.insert(numbered(10)).duplicates == 10
        sent.clear()
        assert db.insert(numbered(10)).duplicates == 10
        assert sent == ["SELECT"]
        mixed = db.insert([*numbered(8, start=5), *numbered(1, "8"), *numbered(1, start=12)])
        assert mixed.inserted_ids == ("10", "11", "12")
        assert (mixed.duplicates, mixed.conflict_ids) == (5 + 1, ("0",))
        sent.clear()
        assert db.insert(numbered(10, start=20)).inserted == 10
        assert db.insert(numbered(10, start=30)).inserted == 10
        assert sent == ["SELECT", "INSERT", "INSERT"]
        assert stored_once(db, [str(n) for n in (*range(13), *range(20, 40))])


def test_rows_that_are_removed_during_the_insert_are_not_taken_as_stored(url: str) -> None:
    class Racing(PostgresDatabase):
        def _run(self, statement: str, value: object) -> list[tuple[object, ...]]:
            if "json_array_elements_text" in statement:
                self._session.run(self._tables.sql("DELETE FROM {table}"))
            return super()._run(statement, value)

    with open_database(url) as db:
        db.insert(numbered(1))
    with Racing(url) as db:
        with pytest.raises(DatabaseUnavailableError, match="insert them again"):
            db.insert(numbered(2))
        assert db.insert(numbered(2)).inserted == 2


def test_several_that_start_at_once_make_the_tables_once(url: str) -> None:
    errors: list[Exception] = []
    gate = threading.Barrier(6)

    def start(number: int) -> None:
        gate.wait()
        try:
            open_database(f"{url}_{number}").close()
        except Exception as error:
            errors.append(error)

    for number in range(8):
        threads = [threading.Thread(target=start, args=(number,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_an_id_that_no_index_takes_is_refused_before_it_is_sent(url: str) -> None:
    from DB import DatabaseRecordError

    with open_database(url) as db:
        with pytest.raises(DatabaseRecordError, match=r"result 1: .*2,600 bytes"):
            db.insert([{"id": "a"}, {"id": "é" * 1301}])
        assert db.insert([{"id": os.urandom(650).hex()}, {"id": "é" * 1300}]).inserted == 2


def test_an_interrupted_insert_leaves_nothing_that_would_be_stored_twice(url: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of xdist hears one only
    interrupted = 0
    with open_database(url) as db:
        db.insert(numbered(1))
        for number in range(5):
            timer = threading.Timer(0.01 * number, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                for _ in range(20):
                    db.insert(numbered(2000))
                    db.insert(numbered(2000))
                timer.join()
            except KeyboardInterrupt:
                interrupted += 1
        assert interrupted == 5
        db.insert(numbered(2000))
        assert stored_once(db, map(str, range(2000)))
        assert db.count() == 2000


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a synchronous standby that follows it."""
    with PostgresServer() as primary:
        primary.run("SELECT 1")
        follower = PostgresServer()
        if os.geteuid() == 0 and not namespaces_work():
            follower.folder.chmod(0o755)
            shutil.chown(follower.folder, "nobody")
        (primary.data / "pg_hba.conf").open("a").write(f"host replication all {HOST}/32 trust\n")
        primary.access_rules(*(primary.data / "pg_hba.conf").read_text().splitlines())
        source = f"host={HOST} port={primary.port} user={SUPERUSER} application_name=follower"
        command = [
            *follower._as_nobody(), str(binary("pg_basebackup")), "-D", str(follower.data),
            "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, **follower._user())
        with (follower.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.write(f"port = {follower.port}\n")
        with follower:
            primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.run("SELECT pg_reload_conf()")
            wait_until(
                lambda: primary.run("SELECT sync_state FROM pg_stat_replication") == [("sync",)],
                "the standby is synchronous",
            )
            yield primary, follower


def test_a_fail_over_needs_no_more_than_two_hosts_in_the_url(
    standby: tuple[PostgresServer, PostgresServer],
) -> None:
    primary, follower = standby
    url = (
        f"postgresql://{SUPERUSER}@{HOST}:{primary.port},{HOST}:{follower.port}/postgres"
        "?target_session_attrs=read-write&connect_timeout=2"
    )
    with open_database(url) as db:
        numbers = itertools.count(step=10)
        acknowledged: list[str] = []

        def insert() -> None:
            results = numbered(10, start=next(numbers))
            until_it_works(lambda: db.insert(results))
            acknowledged.extend(ids_of(results))

        for _ in range(20):
            insert()
        primary.kill()
        promotion = threading.Timer(1.0, follower.run, ("SELECT pg_promote()",))
        promotion.start()
        for _ in range(20):
            insert()
        promotion.join()  # it waits a little longer than the first insert
        assert len(acknowledged) == 400
        assert stored_once(db, acknowledged)


def test_a_standby_alone_is_read_only_and_waited_for(
    standby: tuple[PostgresServer, PostgresServer],
) -> None:
    primary, follower = standby
    open_database(primary.url()).close()
    wait_until(
        lambda: follower.run("SELECT to_regclass('inferences_schema')") != [(None,)], "it follows"
    )
    with pytest.raises(DatabaseUnavailableError, match="target_session_attrs"):
        open_database(follower.url())
    with open_database(follower.url(), read_only=True) as reader:
        assert reader.count() == 0


def is_listening(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
        return True
    return False


@pytest.fixture
def pgbouncer(postgres: PostgresServer) -> Iterator[int]:
    """A real PgBouncer in transaction mode, where there is one."""
    program = shutil.which(os.environ.get("PGBOUNCER", "pgbouncer"))
    if program is None:
        assert not os.environ.get("CI"), "CI installs PgBouncer and skips nothing: see .ci/run"
        pytest.skip("PgBouncer is not on the PATH: apt install pgbouncer")
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={HOST} port={postgres.port} pool_size=2\n"
        f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nauth_type = any\n"
        f"unix_socket_dir =\npool_mode = transaction\nlogfile =\n"
        f"[databases]\npostgres = host={HOST} port={postgres.port} user={SUPERUSER} pool_size=2\n"
    )
    command = [*PostgresServer._as_nobody(), program, str(folder / "pgbouncer.ini")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or is_listening(port), "it listens or ended")
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_pool_in_transaction_mode_may_stand_between(pgbouncer: int, url: str) -> None:
    table = parse(url).table
    pooled = f"postgresql://{SUPERUSER}@{HOST}:{pgbouncer}/postgres?table={table}"
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(open_database(pooled)) for _ in range(4)]
        results = numbered(2000)
        threads = [
            threading.Thread(
                target=lambda db=db: [db.insert(results[n : n + 100]) for n in range(0, 2000, 100)]
            )
            for db in writers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stored_once(writers[0], map(str, range(2000)))
        assert writers[0].insert(numbered(3, "8")).conflicts == 3
        writers[0].check(5.0)


def test_two_app_2_share_a_subscription_and_a_server_and_each_is_killed(
    postgres: PostgresServer,
    url: str,
    pipeline: Pipeline,  # noqa: F811
) -> None:
    def start() -> object:
        return pipeline.start("app_2", "--db", url)

    first, second = start(), start()
    for script in (first, second):
        script.ready()
    pipeline.sub()
    pipeline.pub()
    app_1 = pipeline.app_1("--count", 3000, "--rate", 300)
    with open_database(url, read_only=True) as db:

        def stored() -> int:
            with contextlib.suppress(DatabasePassingError):
                return db.count()
            return 0

        wait_until(lambda: stored() >= 400, "400 rows")
        first.kill()
        wait_until(lambda: stored() >= 1000, "1,000 rows")
        postgres.kill()
        postgres.start()
        first = start()
        wait_until(lambda: stored() >= 1800, "1,800 rows")
        second.kill()
        app_1.end()
        wait_until(lambda: stored() >= 3000, "3,000 rows", 120)
        time.sleep(0.5)
        assert db.count() == 3000
        assert stored_once(db, pipeline.ids())
    assert "waiting" in first.output + second.output


def test_import_takes_a_text_over_and_may_be_repeated(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from DB.__main__ import main

    text = tmp_path / "db.txt"
    with open_database(text) as db:
        db.insert(numbered(2500))
        db.insert(numbered(3, "8"))
        db.insert_shadow([{**each, "model": "m"} for each in numbered(4)])
        before = list(db)
    for told in ("2,500 new, 0 already there, 3 conflicts; 4", "0 new, 2,500 already there, 3 co"):
        assert main(["import", str(text), "--db", url]) == 0
        assert told in capsys.readouterr().out
    with open_database(url, read_only=True) as db:
        assert list(db) == before
        assert ids_of(db.conflicts()) == ["0", "1", "2"]
        assert ids_of(db.iter_shadow()) == ["0", "1", "2", "3"]
    assert main(["import", str(text), "--db", str(text)]) == 2
    assert main(["import", str(tmp_path / "none.txt"), "--db", url]) == 1


def test_writers_that_bring_the_same_ids_in_opposite_orders_never_wait_in_a_circle(
    url: str,
) -> None:
    with (
        open_database(url) as one,
        open_database(url) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        for start in range(0, 10_000, 1000):
            results = numbered(1000, start=start)
            forth, back = (
                threads.submit(one.insert, results),
                threads.submit(other.insert, results[::-1]),
            )
            assert forth.result().inserted + back.result().inserted == 1000
        assert one.count() == 10_000


def test_tables_that_another_one_makes_between_two_looks_are_not_somebody_else_s(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = schema._present

    def made_right_after(*look: Any) -> bool:
        monkeypatch.setattr(schema, "_present", present)
        found = present(*look)
        open_database(url).close()
        return found

    monkeypatch.setattr(schema, "_present", made_right_after)
    with open_database(url) as db:
        assert db.insert(numbered(1)).inserted == 1

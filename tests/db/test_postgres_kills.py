"""Kills at random moments of a PostgreSQL, of a backend, and of the clients: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time

import psycopg
import pytest

from DB import open_database
from tests.db_conformance.harness import Writer
from tests.engines.postgres_server import PostgresServer
from tests.waiting import until_it_works

KILLS = 24
SECONDS = (0.2, 1.5)


@pytest.mark.soak
def test_what_was_acknowledged_is_stored_once_after_every_kill() -> None:
    acknowledged: dict[str, int] = {}
    kinds = {"server": 0, "restart": 0, "backend": 0, "client": 0}
    with PostgresServer() as server:
        url = server.url()
        open_database(url).close()
        writers = {name: Writer(url, "stream", name) for name in ("a0", "b0")}
        for number in range(KILLS):
            time.sleep(random.uniform(*SECONDS))
            kind = random.choice(list(kinds))
            kinds[kind] += 1
            if kind == "server":
                server.kill()
                server.start()
            elif kind == "restart":
                server.stop()
                server.start()
            elif kind == "backend":
                for pid in server.backends()[:1]:
                    os.kill(pid, signal.SIGKILL)
            else:
                name = random.choice(list(writers))
                said = writers.pop(name).kill()
                acknowledged[name] = int(said[-1]) if said else 0
                new = f"{name[0]}{number + 1}"
                writers[new] = Writer(url, "stream", new)
        for name, writer in writers.items():
            said = writer.kill()
            acknowledged[name] = int(said[-1]) if said else 0
        until_it_works(lambda: server.run("SELECT 1"), psycopg.OperationalError)
        with open_database(url) as db:
            stored = [row["id"] for row in db]
            found = db.verify()
    wanted = {f"{name}-{n}" for name, count in acknowledged.items() for n in range(count)}
    print(f"kills {kinds}, acknowledged {len(wanted):,}, rows {len(stored):,}")
    assert len(wanted) > 0
    assert len(stored) == len(set(stored))
    assert wanted <= set(stored)
    assert found.problems == []

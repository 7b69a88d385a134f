"""The whole pipeline past one host: Kafka, the queue on Redis, the DB on PostgreSQL, two of each.

Whatever is killed, every image that app_1 reported is in the DB once.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from DB import DatabasePassingError, open_database
from tests.brokers.harness import BrokerUnderTest
from tests.engines import postgres_server, redis_server
from tests.engines.postgres_server import PostgresServer
from tests.engines.redis_server import RedisServer
from tests.pipeline.runner import Pipeline, Script, wait_until

ON_KAFKA = pytest.mark.parametrize("running_broker", ["kafka"], indirect=True)
# A publisher that was killed, and what it had taken: another's after so long.
LEASE_SECONDS = 2
# How many are killed in the long test, and what decides which and when.
KILLS = int(os.environ.get("SOAK_KILLS", "1000"))
SEED = os.environ.get("SOAK_SEED") or str(random.randrange(1 << 32))
# So often it is made sure that the pipeline goes on, and told how far it is.
KILLS_BETWEEN_LOOKS = 20


class Fleet:
    """Two servers, two publishers and two app_2, and what they stand on."""

    def __init__(self, pipeline: Pipeline, redis: RedisServer, postgres: PostgresServer) -> None:
        self.pipeline = pipeline
        self.redis = redis
        self.postgres = postgres
        name = pipeline.images.replace("-", "_").replace(".", "_")[-40:]
        pipeline.queue = redis.url(name, consumers="many", lease=LEASE_SECONDS)
        pipeline.db = postgres.url(table=name)
        self.killed: collections.Counter[str] = collections.Counter()
        self.started_again: collections.Counter[str] = collections.Counter()
        self._start: dict[str, Callable[[], Script]] = {
            "model_server_sub": lambda: pipeline.sub(
                "--state-dir", pipeline.folder, "--batch-size", 64, "--threads", 1
            ),
            "model_server_pub": lambda: pipeline.pub(
                "--state-dir", pipeline.folder, "--batch-size", 64
            ),
            "app_2": lambda: pipeline.app_2("--batch-size", 64),
        }
        self._running = {kind: [start(), start()] for kind, start in self._start.items()}
        for scripts in self._running.values():
            for script in scripts:
                script.ready()

    def kill(self, kind: str) -> None:
        """Kill one of a kind, and start another in its place."""
        self.killed[kind] += 1
        if kind == "redis":
            self.redis.kill()
            self.redis.start()
        elif kind == "postgres":
            self.postgres.kill()
            self.postgres.start()
        elif kind == "kafka":
            self.pipeline.broker.restart()
        else:
            scripts = self._running[kind]
            chosen = scripts.pop(random.randrange(len(scripts)))
            self._require_that_it_ran(chosen)
            chosen.kill()
            scripts.append(self._start[kind]())

    def supervise(self) -> None:
        """Start again what has ended by itself, as supervisors do."""
        for kind, scripts in self._running.items():
            for number, script in enumerate(scripts):
                if script.process.poll() is not None:
                    self._require_that_it_ran(script)
                    self.started_again[kind] += 1
                    scripts[number] = self._start[kind]()

    def _require_that_it_ran(self, script: Script) -> None:
        """Only at its start a script ends for what is away; at work it waits.

        Kafka's client itself aborts, now and then, as its broker goes: that is a kill as any other.
        """
        code, output = script.process.poll(), script.output
        gave_up = code == 1 and "ready: " not in output and "Traceback" not in output
        aborted = code == -signal.SIGABRT and re.search(
            r"rdkafka_\w+\.[ch]:\d+: .*Assertion", output
        )
        assert code is None or gave_up or aborted, f"{script.name} had ended with {code}: {output}"
        if aborted:
            self.killed["by librdkafka"] += 1

    def wait_for(self, rows: int, seconds: float = 300) -> None:
        """Wait until so many rows are stored."""

        def there() -> bool:
            self.supervise()
            return self.stored() >= rows

        wait_until(there, f"{rows} rows", seconds, look_seconds=0.5)

    def stored(self) -> int:
        """Return how many rows there are; whoever looks has to wait for the server, too."""
        while True:
            with contextlib.suppress(DatabasePassingError):
                return self.pipeline.stored()

    def end(self) -> None:
        """End all."""
        self.supervise()
        for scripts in self._running.values():
            for script in scripts:
                script.ready().terminate()
        with open_database(self.pipeline.db, read_only=True) as db:
            assert next(db.conflicts(), None) is None


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, PostgresServer]]:
    redis_server.find_or_skip()
    postgres_server.find_or_skip()
    with RedisServer() as redis, PostgresServer() as postgres:
        yield redis, postgres


@pytest.fixture
def fleet(
    under_test: BrokerUnderTest, servers: tuple[RedisServer, PostgresServer], tmp_path: Path
) -> Iterator[Fleet]:
    with Pipeline(under_test, tmp_path) as pipeline:
        yield Fleet(pipeline, *servers)


@ON_KAFKA
@pytest.mark.timeout(400)
def test_each_is_killed_in_turn_and_every_image_is_stored_once(fleet: Fleet) -> None:
    count = 2000
    app_1 = fleet.pipeline.app_1("--count", count, "--rate", 200)
    kinds = ("model_server_sub", "redis", "model_server_pub", "postgres", "app_2")
    for number, kind in enumerate(kinds, start=1):
        fleet.pipeline.wait_for_rows(count * number // 8, seconds=120)
        fleet.kill(kind)
    fleet.pipeline.wait_for_rows(count, seconds=180)
    app_1.end()
    fleet.end()

    fleet.pipeline.assert_each_stored_once()


@ON_KAFKA
@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_twenty_thousand_images(fleet: Fleet) -> None:
    count = 20_000
    app_1 = fleet.pipeline.app_1("--count", count, "--rate", 400)
    kinds = ("model_server_sub", "redis", "model_server_pub", "postgres", "app_2", "kafka")
    for number in range(1, 13):
        fleet.pipeline.wait_for_rows(count * number // 16, seconds=300)
        fleet.kill(kinds[number % len(kinds)])
    fleet.pipeline.wait_for_rows(count, seconds=600)
    app_1.end()
    fleet.end()

    fleet.pipeline.assert_each_stored_once()
    print(f"\n{count:,} images, killed: {dict(fleet.killed)}")


@ON_KAFKA
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_a_thousand_kills(fleet: Fleet) -> None:
    """`SOAK_KILLS=100` for a shorter one, `SOAK_SEED` for another order."""
    chance = random.Random(SEED)
    app_1 = fleet.pipeline.app_1("--count", 10_000_000, "--rate", 200)
    fleet.wait_for(1)  # app_1 is not killed, and would end if its broker were away at its start
    # A broker takes many times as long to start as the others: it is killed less often.
    kinds = ("model_server_sub", "redis", "model_server_pub", "postgres", "app_2") * 4 + ("kafka",)
    for number in range(1, KILLS + 1):
        time.sleep(chance.uniform(0.05, 0.8))
        fleet.kill(chance.choice(kinds))
        if number % KILLS_BETWEEN_LOOKS == 0:
            before = fleet.stored()
            fleet.wait_for(before + 100)  # it goes on
            print(f"{number} kills, {before:,} stored", flush=True)
    app_1.terminate()
    published = fleet.pipeline.ids()
    fleet.wait_for(len(published), seconds=900)
    fleet.end()

    stored = [row["id"] for row in fleet.pipeline.rows()]
    print(f"\n{len(published):,} images, {KILLS} kills (seed {SEED}): {dict(fleet.killed)}")
    print(f"started again by their supervisor: {dict(fleet.started_again)}")
    assert len(stored) == len(set(stored))
    assert set(published) <= set(stored)

"""The whole pipeline past one host: Kafka, the queue on Redis, the DB on PostgreSQL, two of each.

Whatever is killed, every image that app_1 reported is in the DB once.
"""

from __future__ import annotations

import collections
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from DB import open_database
from tests.brokers.harness import BrokerUnderTest
from tests.engines import postgres_server, redis_server
from tests.engines.postgres_server import PostgresServer
from tests.engines.redis_server import RedisServer
from tests.pipeline.runner import Pipeline, Script

ON_KAFKA = pytest.mark.parametrize("running_broker", ["kafka"], indirect=True)
# A publisher that was killed, and what it had taken: another's after so long.
LEASE_SECONDS = 2
# How many are killed in the long test.
KILLS = int(os.environ.get("SOAK_KILLS", "1000"))


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
            assert chosen.process.poll() is None, f"{chosen.name} had ended: {chosen.output}"
            chosen.kill()
            scripts.append(self._start[kind]())

    def end(self) -> None:
        """End all."""
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
    pipeline = Pipeline(under_test, tmp_path)
    try:
        yield Fleet(pipeline, *servers)
    finally:
        pipeline.stop()


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
    """`SOAK_KILLS=100` for a shorter one."""
    app_1 = fleet.pipeline.app_1("--count", 10_000_000, "--rate", 200)
    # A broker takes many times as long to start as the others: it is killed less often.
    kinds = ("model_server_sub", "redis", "model_server_pub", "postgres", "app_2") * 4 + ("kafka",)
    for number in range(KILLS):
        time.sleep(random.uniform(0.2, 2.0))
        fleet.kill(random.choice(kinds))
        if number % 20 == 0:
            before = fleet.pipeline.stored()
            fleet.pipeline.wait_for_rows(before + 100, seconds=300)  # it goes on
    app_1.terminate()
    published = fleet.pipeline.ids()
    fleet.pipeline.wait_for_rows(len(published), seconds=900)
    fleet.end()

    stored = [row["id"] for row in fleet.pipeline.rows()]
    print(f"\n{len(published):,} images, {KILLS} kills: {dict(fleet.killed)}")
    assert len(stored) == len(set(stored))
    assert set(published) <= set(stored)

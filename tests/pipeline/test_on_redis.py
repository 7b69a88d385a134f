"""The scripts with their queue in a real Redis: alone, beside each other, and while it is away."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.engines.redis_server import RedisServer, find_or_skip
from tests.operations.scripts import get, scrape
from tests.pipeline.runner import Pipeline, Script, wait_until
from tests.servers import free_port

IMAGES = 1000


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    find_or_skip()
    with RedisServer() as server:
        yield server


def test_a_server_that_is_away_is_waited_for_by_both_sides_and_everybody_can_see_it(
    pipeline: Pipeline, redis: RedisServer
) -> None:
    pipeline.queue = redis.url("away", lease=2)
    state = pipeline.folder / "state"
    ports = [free_port() for _ in range(2)]
    sub = pipeline.sub("--state-dir", state, "--batch-size", 16, "--metrics-port", ports[0])
    pub = pipeline.pub("--state-dir", state, "--metrics-port", ports[1])
    app_2 = pipeline.app_2()
    app_1 = pipeline.app_1("--count", IMAGES, "--rate", 400)
    pipeline.wait_for_rows(IMAGES // 4)
    with redis.away():
        for port in ports:
            wait_until(
                lambda port=port: 'serving_waiting{reason="queue"} 1.0' in get(port, "/metrics")[1],
                "it is said that the queue is waited for",
            )
    pipeline.wait_for_rows(IMAGES)
    app_1.end()
    for script in (sub, pub, app_2):
        script.terminate()
    pipeline.assert_each_stored_once()
    assert {path.name.partition(".")[2] for path in state.iterdir()} == {
        "in_flight.0.json",
        "seen.json",
    }


def test_several_publishers_share_a_queue_and_end_when_nothing_is_left(
    pipeline: Pipeline, redis: RedisServer
) -> None:
    pipeline.queue = redis.url("shared", consumers="many", lease=2)
    sub = pipeline.sub("--state-dir", pipeline.folder).ready()
    app_1 = pipeline.app_1("--count", IMAGES, "--rate", 500)
    pubs = [
        pipeline.pub("--state-dir", pipeline.folder, "--batch-size", 8, "--exit-when-idle", 2)
        for _ in range(3)
    ]
    app_2 = pipeline.app_2()
    for pub in pubs:
        pub.ready()
    pipeline.wait_for_rows(IMAGES // 3)
    pubs.pop().kill()  # what it had taken comes to the others after the lease
    app_1.end()
    for pub in pubs:
        pub.end()
    pipeline.wait_for_rows(IMAGES)
    sub.terminate()
    app_2.terminate()
    pipeline.assert_each_stored_once()


def test_a_publisher_that_hangs_is_superseded_and_stands_by_once_it_goes_on(
    pipeline: Pipeline, redis: RedisServer
) -> None:
    pipeline.queue = redis.url("strict", lease=2)
    port = free_port()
    first = pipeline.pub("--state-dir", pipeline.folder).ready()
    second = pipeline.pub("--state-dir", pipeline.folder, "--metrics-port", port)
    second.says("standing by")
    wait_until(lambda: scrape(port).values.get("serving_standby") == 1, "it stands by")
    sub = pipeline.sub("--state-dir", pipeline.folder, "--batch-size", 16)
    app_2 = pipeline.app_2()
    app_1 = pipeline.app_1("--count", IMAGES, "--rate", 200)
    pipeline.wait_for_rows(IMAGES // 10)
    first.process.send_signal(signal.SIGSTOP)
    second.ready().says("taken over")
    first.process.send_signal(signal.SIGCONT)
    first.says("has taken over")
    pipeline.wait_for_rows(IMAGES)
    app_1.end()
    for script in (first, second, sub, app_2):
        script.terminate()
    pipeline.assert_each_stored_once()


def test_a_server_that_was_emptied_ends_both_sides_and_a_start_goes_on(
    pipeline: Pipeline, redis: RedisServer
) -> None:
    pipeline.queue = redis.url("emptied", lease=2)

    def start() -> list[Script]:
        state = ("--state-dir", pipeline.folder)
        return [pipeline.sub(*state, "--batch-size", 16).ready(), pipeline.pub(*state).ready()]

    scripts = start()
    app_2 = pipeline.app_2()
    app_1 = pipeline.app_1("--count", 100_000, "--rate", 100)
    pipeline.wait_for_rows(50)
    redis.ask("FLUSHALL")
    for script in scripts:
        assert "no longer what was opened" in script.end(1)

    scripts = start()
    assert any("came back without what this host knows" in each.output for each in scripts)
    pipeline.wait_for_rows(pipeline.stored() + 100)
    for script in (app_1, *scripts, app_2):
        script.terminate()

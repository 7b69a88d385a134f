"""What only a queue in Redis can meet: replicas, a full memory, a lease, a server set back."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from Queue import QueueReplacedError, QueueUnavailableError, ResultQueue, open_queue
from Queue.redis.queue import RedisQueue
from Queue.redis.replication import Replication
from Queue.redis.url import parse
from tests.engines.redis_server import HOST, RedisServer
from tests.queue_conformance.stories import drained, ids_of, named, numbered, until_it_works


@pytest.fixture
def replicated() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, which has caught up."""
    with RedisServer() as primary, RedisServer(replicaof=f"{HOST} {primary.port}") as replica:
        until_it_works(lambda: _require_replica(primary))
        yield primary, replica


def _require_replica(primary: RedisServer) -> None:
    if not primary.ask("WAIT", 1, 100):
        raise QueueUnavailableError("not yet")
    primary.ask("SET", "x", 1)
    if not primary.ask("WAIT", 1, 1000):
        raise QueueUnavailableError("not yet")


def test_a_put_waits_for_replicas_and_appends_once_however_often_it_is_tried(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    primary, replica = replicated
    with RedisQueue(primary.url(replicas=1), answer_seconds=2) as queue:
        queue.put(numbered(2))
        with replica.hanging():
            for _ in range(4):  # the first appends; the others wait for what was appended
                with pytest.raises(QueueUnavailableError, match="0 of replicas=1"):
                    queue.put(numbered(2, 2), timeout=0.2)
            assert queue.status().depth == 4
        until_it_works(lambda: queue.put(numbered(2, 2), timeout=1.0))
        assert drained(queue) == ["0", "1", "2", "3"]


def test_a_put_waits_no_longer_than_it_is_told_to_for_one_that_waits_for_replicas() -> None:
    replication = Replication(parse("redis://host/0?replicas=1"), answer_seconds=10)
    is_waiting, is_there = threading.Event(), threading.Event()

    def ask(*_command: object) -> int:
        is_waiting.set()
        assert is_there.wait(10)
        return 1

    with ThreadPoolExecutor() as pool:
        first = pool.submit(replication.append, ask, [b"a"], None, lambda: b"1-0")
        try:
            assert is_waiting.wait(10)
            with pytest.raises(QueueUnavailableError, match="puts of other threads") as error:
                replication.append(ask, [b"b"], time.monotonic(), lambda: b"2-0")
            assert error.value.appended == 0
        finally:
            is_there.set()
        assert first.result(10) == b"1-0"
    assert replication.append(ask, [b"b"], time.monotonic() + 10, lambda: b"2-0") == b"2-0"


@pytest.mark.parametrize("consumers", ["one", "many"])
def test_a_server_that_hangs_is_waited_for_as_long_as_the_caller_wants(
    redis: RedisServer, consumers: str
) -> None:
    url = redis.url(consumers=consumers)
    with RedisQueue(url, answer_seconds=120) as queue, RedisQueue(url, answer_seconds=120) as other:
        queue.put(numbered(2))
        assert ids_of(queue.take(1, 5)) == ["0"]
        began = time.monotonic()
        with redis.hanging():
            with pytest.raises(QueueUnavailableError) as error:
                other.put(numbered(1, 2), timeout=0.1)
            assert error.value.appended == 0
            for _ in range(2):  # a connection that is open, and one that would be made
                with pytest.raises(QueueUnavailableError):
                    queue.take(1, timeout=0.1)
            with pytest.raises(QueueUnavailableError):
                other.check(0.1)
        assert time.monotonic() - began < 60  # an answer may take 120
        other.put(numbered(1, 3), timeout=5.0)
        assert until_it_works(queue.status).depth == 3  # nothing of what was told as not written


def test_what_was_put_survives_the_promotion_of_a_replica(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    primary, replica = replicated
    with RedisQueue(primary.url(replicas=1), answer_seconds=2) as queue:
        for start in range(0, 200, 20):
            queue.put(numbered(20, start))
        primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    with open_queue(replica.url()) as queue:
        assert drained(queue) == [str(n) for n in range(200)]


def test_a_replica_is_refused_as_trouble_that_passes(
    replicated: tuple[RedisServer, RedisServer],
) -> None:
    _, replica = replicated
    with pytest.raises(QueueUnavailableError, match="is a replica"):
        open_queue(replica.url())


@pytest.mark.parametrize("consumers", ["one", "many"])
def test_a_full_memory_is_drained_by_a_publisher_that_starts_then(
    redis: RedisServer, consumers: str
) -> None:
    url = redis.url(consumers=consumers)
    with open_queue(url) as queue:
        queue.put(numbered(50))
    redis.set(maxmemory="1mb")
    with open_queue(url) as queue:
        assert drained(queue) == [str(n) for n in range(50)]


def test_a_server_that_forgets_its_scripts_is_told_them_again(redis: RedisServer) -> None:
    with open_queue(redis.url()) as queue:
        queue.put(numbered(1))
        redis.ask("SCRIPT", "FLUSH")
        queue.put(numbered(1, 1))
        assert drained(queue) == ["0", "1"]


def test_publishers_may_change_from_one_to_many_and_back(redis: RedisServer) -> None:
    for turn, consumers in enumerate(("one", "many", "one", "many")):
        with open_queue(redis.url(consumers=consumers)) as queue:
            queue.put(numbered(4, 4 * turn))
            assert len(queue.take(3, timeout=5)) == 3  # and leaves them
    with open_queue(redis.url(consumers="one")) as queue:
        assert drained(queue) == [str(n) for n in range(16)]


def test_a_lost_answer_of_a_group_is_asked_for_again(redis: RedisServer) -> None:
    """The server answered, and the answer did not arrive: the records are pending for this one."""
    with RedisQueue(redis.url(consumers="many"), answer_seconds=5) as queue:
        queue.put(numbered(6))
        first = queue.take(2, timeout=5)
        assert queue._consumer is not None
        redis.ask(
            "XREADGROUP", "GROUP", "publishers", queue._consumer.token,
            "COUNT", 3, "STREAMS", "results", ">",
        )  # fmt: skip
        queue._consumer._lost_answer = True  # type: ignore[attr-defined]

        ids = ids_of(first)
        while batch := queue.take(2, timeout=0.5):
            ids += ids_of(batch)
        assert ids == ["0", "1", "2", "3", "4", "5"]


@contextlib.contextmanager
def known_to_the_host(redis: RedisServer, folder: Path) -> Iterator[ResultQueue]:
    with open_queue(redis.url(), state_dir=folder) as queue:
        yield queue


def test_a_start_tells_that_the_server_came_back_empty_and_goes_on(
    redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with known_to_the_host(redis, tmp_path) as queue:
        queue.put(numbered(3))
    with known_to_the_host(redis, tmp_path):
        assert not caplog.records
    redis.ask("FLUSHALL")
    with known_to_the_host(redis, tmp_path) as queue:
        assert "came back without what this host knows" in caplog.text
        caplog.clear()
        queue.put(named("later"))
    with known_to_the_host(redis, tmp_path) as queue:
        assert not caplog.records
        assert drained(queue) == ["later"]


def test_a_server_that_was_set_back_is_noticed_by_whoever_was_connected_and_by_a_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server:
        queue = open_queue(server.url(), state_dir=tmp_path)
        queue.put(numbered(2))
        server.stop()
        older = tmp_path / "older"
        shutil.copytree(server.folder / "appendonlydir", older)
        server.start()
        until_it_works(lambda: queue.put(numbered(2, 2)))
        server.forget()
        shutil.copytree(older, server.folder / "appendonlydir")
        server.start()

        with pytest.raises(QueueReplacedError, match="came back without records"):
            until_it_works(lambda: queue.put(numbered(1, 4)))
        queue.close()
        with open_queue(server.url(), state_dir=tmp_path) as again:
            assert "came back without what this host knows" in caplog.text
            assert drained(again) == ["0", "1"]


def test_a_damaged_memory_of_the_host_begins_anew(
    redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with known_to_the_host(redis, tmp_path) as queue:
        queue.put(numbered(1))
    (file,) = tmp_path.iterdir()
    file.write_text('{"last_id": "x-y"}\n')
    with known_to_the_host(redis, tmp_path) as queue:
        assert "is damaged: it begins anew" in caplog.text
        assert drained(queue) == ["0"]


def test_consumers_that_died_long_ago_are_forgotten(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_url = redis.url(consumers="many")
    with open_queue(redis_url) as queue:
        queue.put(numbered(1))
    redis.ask("XGROUP", "CREATECONSUMER", "results", "publishers", "dead")
    monkeypatch.setattr("Queue.redis.consumer.FORGOTTEN_AFTER_SECONDS", 0.0)
    with open_queue(redis_url) as queue:
        assert drained(queue) == ["0"]
    assert redis.ask("XINFO", "CONSUMERS", "results", "publishers") == []

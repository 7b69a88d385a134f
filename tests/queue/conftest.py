"""A real Redis for the tests of what only Redis can do wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.redis_server import RedisServer, find_or_skip


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One server for the tests of a module."""
    find_or_skip()
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The server, empty, with its settings as they were."""
    redis_server.ask("FLUSHALL")
    yield redis_server
    redis_server.set(
        appendonly="yes",
        appendfsync="always",
        maxmemory="0",
        maxmemory_policy="noeviction",
        no_appendfsync_on_rewrite="no",
    )

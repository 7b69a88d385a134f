"""The engines behind the queue, one of each for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queue_conformance.harness import ENGINES, QueueUnderTest


@pytest.fixture(scope="session", params=list(ENGINES))
def running_queue(request: pytest.FixtureRequest) -> Iterator[QueueUnderTest]:
    """Each engine in turn: all tests of one, then it is stopped, then those of the next."""
    engine = ENGINES[request.param]()
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(running_queue: QueueUnderTest) -> Iterator[QueueUnderTest]:
    """An engine with a place at which there is no queue yet; all is closed after the test."""
    running_queue.begin_test()
    yield running_queue
    running_queue.end_test()

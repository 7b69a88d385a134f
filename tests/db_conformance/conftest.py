"""The engines behind the DB, one of each for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db_conformance.harness import ENGINES, DatabaseUnderTest


@pytest.fixture(scope="session", params=list(ENGINES))
def running_engine(request: pytest.FixtureRequest) -> Iterator[DatabaseUnderTest]:
    """Each engine in turn: all tests of one, then it is stopped, then those of the next."""
    engine = ENGINES[request.param]()
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(running_engine: DatabaseUnderTest) -> Iterator[DatabaseUnderTest]:
    """An engine with a place at which there is no DB yet; all is closed after the test."""
    running_engine.begin_test()
    yield running_engine
    running_engine.end_test()

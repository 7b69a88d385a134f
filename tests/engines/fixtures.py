"""Fixtures of the suites of queue and DB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.engines.under_test import EngineUnderTest


def fixtures_of(engines: Mapping[str, Callable[[], EngineUnderTest]]) -> tuple[object, object]:
    """Return the fixtures `running_engine`, one of each for all tests, and `engine`, for a test."""

    @pytest.fixture(scope="session", params=list(engines))
    def running_engine(request: pytest.FixtureRequest) -> Iterator[EngineUnderTest]:
        """Each engine in turn: all tests of one, then it is stopped, then those of the next."""
        engine = engines[request.param]()
        try:
            engine.start()
            yield engine
        finally:
            engine.stop()

    @pytest.fixture
    def engine(running_engine: EngineUnderTest) -> Iterator[EngineUnderTest]:
        """An engine with a place at which there is nothing yet; all is closed after the test."""
        running_engine.begin_test()
        yield running_engine
        running_engine.end_test()

    return running_engine, engine

"""The brokers, one of each for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.brokers.harness import BROKERS, FOREIGN_VARIABLES, BrokerUnderTest

pytest_plugins = ["tests.shared_out", "tests.minutes"]

# Hypothesis would fail an example that takes 200 ms, which here means that others are at work too.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", params=list(BROKERS))
def running_broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    """Each broker in turn: all tests of one, then it is stopped, then those of the next."""
    broker = BROKERS[request.param]()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def under_test(
    running_broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BrokerUnderTest]:
    """A broker, and all that the test opened on it closed afterwards."""
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in running_broker.environment.items():
        monkeypatch.setenv(name, value)
    yield running_broker
    running_broker.end_of_test()

"""The brokers, one of each for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.brokers.harness import BROKERS, FOREIGN_VARIABLES, BrokerUnderTest


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C: with the brokers stopped, not left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
def handler(
    running_broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BrokerUnderTest]:
    """A broker, and all that the test opened on it closed afterwards."""
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in running_broker.environment.items():
        monkeypatch.setenv(name, value)
    yield running_broker
    running_broker.end_of_test()

"""The brokers, one of each for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.brokers.harness import BROKERS, BrokerUnderTest

# `under_test`, which most tests take, is of MessageBroker.conformance.plugin: see pyproject.toml.
pytest_plugins = ["tests.shared_out", "tests.minutes"]

# Hypothesis would fail an example that takes 200 ms, which here means that others are at work too.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", params=list(BROKERS))
def running_broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    """Each broker in turn: all tests of one, then it is stopped, then those of the next."""
    with BROKERS[request.param]() as broker:
        yield broker


@pytest.fixture(autouse=True)
def _own_signal_handlers() -> Iterator[None]:
    """Put back what a test lets signals do: the next one may send one to its own process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)

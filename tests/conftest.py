"""The brokers, one of each for all tests."""

from __future__ import annotations

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

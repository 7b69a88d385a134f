"""The pytest plugin of the conformance suite: `-p MessageBroker.conformance.plugin`.

It has to be there before test modules are, which have the marks: so it stands in the command line,
in `addopts`, or in `pytest_plugins` of the topmost `conftest.py`.

It brings the fixture `under_test`, which every behaviour takes, and the marks. The test module, or
its `conftest.py`, brings `running_broker`: a `BrokerUnderTest` that was started.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from MessageBroker.conformance.harness import BrokerUnderTest


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks, for `--strict-markers`."""
    config.addinivalue_line("markers", "soak: takes long; left out by `-m 'not soak'`")


@pytest.fixture
def under_test(
    running_broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BrokerUnderTest]:
    """Give a test its broker; what it opened there is closed afterwards."""
    for name in running_broker.foreign_variables:
        monkeypatch.delenv(name, raising=False)
    for name, value in running_broker.environment.items():
        monkeypatch.setenv(name, value)
    yield running_broker
    running_broker.end_of_test()

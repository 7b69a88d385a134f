"""What the tests of each folder took: printed at the end of a run that took long.

`make test` has a budget, and each folder its share of it. The minutes are those of the tests
themselves, with their fixtures, in whichever process; two processes take about half of the sum.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pytest

# Nobody wants the table after a few tests.
WORTH_TELLING_SECONDS = 60.0


class Minutes:
    """Adds up the durations; with xdist in the process that gets the reports of all."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a test, or the setting up or tearing down of one."""
        self.seconds[folder_of(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        took = time.monotonic() - self._began
        if took >= WORTH_TELLING_SECONDS:
            terminalreporter.section("minutes by folder")
            for line in lines_of(self.seconds, took):
                terminalreporter.write_line(line)


def folder_of(node_id: str) -> str:
    """Return the folder of a test: `tests/queue`."""
    module, _, _ = node_id.partition("::")
    return str(PurePosixPath(module).parent)


def lines_of(seconds: Mapping[str, float], took: float) -> Iterator[str]:
    """Show minutes, the most first."""
    for folder, spent in sorted(seconds.items(), key=lambda each: (-each[1], each[0])):
        yield f"{spent / 60:6.1f}  {folder}"
    yield f"{sum(seconds.values()) / 60:6.1f}  all tests, in {took / 60:.1f} minutes"


def pytest_configure(config: pytest.Config) -> None:
    """Register what counts."""
    config.pluginmanager.register(Minutes(), "minutes by folder")

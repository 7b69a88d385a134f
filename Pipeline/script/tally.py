"""The last line of each script: how many, how fast, how many dead-lettered."""

from __future__ import annotations

import time


class Tally:
    """Counts what a script has done, and how fast: from the first's coming to the last's end.

    The work on the first batch counts, too: a run of one batch would have no rate without it, and
    one of two batches twice its own.
    """

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.dead_lettered = 0
        self._first: float | None = None
        self._last = 0.0

    def begin(self) -> None:
        """Start the clock, if it does not run: the first of all is to be worked on now."""
        if self._first is None:
            self._first = time.monotonic()

    def add(self, number: int) -> None:
        """Count `number` more that are done."""
        if number:
            self.begin()
            self._last = time.monotonic()
            self.done += number

    @property
    def rate(self) -> str:
        """The rate in words, below ten not rounded to whole ones; empty when nothing was done."""
        seconds = self._last - (self._first or 0.0)
        if not self.done or seconds <= 0:
            return ""
        rate = self.done / seconds
        return f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s"

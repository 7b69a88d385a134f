"""The last line of each script: how many, how fast, how many dead-lettered."""

from __future__ import annotations

import time


class Tally:
    """Counts what a script has done, and how fast: from the first to the last."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.dead_lettered = 0
        self._first = 0.0
        self._last = 0.0

    def add(self, number: int) -> None:
        """Count `number` more."""
        self._last = time.monotonic()
        if not self.done:
            self._first = self._last
        self.done += number

    @property
    def rate(self) -> str:
        """The rate in words; empty when there is too little to tell."""
        seconds = self._last - self._first
        return f", {self.done / seconds:,.0f}/s" if seconds > 0 else ""

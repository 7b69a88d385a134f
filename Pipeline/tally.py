"""What a script has done: the counters of its metrics, and the rate of its last line."""

from __future__ import annotations

import time
from collections.abc import Callable

from DurableText.program.wording import rate_in_words


class Tally:
    """Counts what a script has done, and how fast: from the first's coming to the last's end.

    The work on the first batch counts, too: a run of one batch would have no rate without it, and
    one of two batches twice its own.

    Attributes:
        done: images or results that are through: confirmed, or durable.
        failed: those that can never be published.
        duplicates: results that the DB had already.
        conflicts: results that the DB has with another label.
        lines_dead_lettered: what was no message yet, and was moved away as bad.
        messages_dead_lettered: tells how many messages were; letters may be sent later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing done; `clock` tells the time."""
        self.done = 0
        self.failed = 0
        self.duplicates = 0
        self.conflicts = 0
        self.lines_dead_lettered = 0
        self.messages_dead_lettered: Callable[[], int] = lambda: 0
        self._clock = clock
        self._first: float | None = None
        self._last = 0.0

    def begin(self) -> None:
        """Start the clock, if it does not run: the first of all is to be worked on now."""
        if self._first is None:
            self._first = self._clock()

    def add(self, number: int) -> None:
        """Count `number` more that are done."""
        if number:
            self.begin()
            self._last = self._clock()
            self.done += number

    @property
    def dead_lettered(self) -> int:
        """Messages and lines that were moved away as bad."""
        return self.lines_dead_lettered + self.messages_dead_lettered()

    @property
    def through(self) -> int:
        """How many messages are dealt with, in whatever way."""
        return self.done + self.failed + self.duplicates + self.conflicts + self.dead_lettered

    @property
    def rate(self) -> str:
        """The rate in words, to be put behind what was done; empty when nothing was done."""
        seconds = self._last - (self._first or 0.0)
        if not self.done or seconds <= 0:
            return ""
        return f", {rate_in_words(self.done / seconds)}"

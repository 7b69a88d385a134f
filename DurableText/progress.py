"""How far a long command has come: a line on standard error now and then, for whoever waits.

A quick command says nothing. Standard output is the command's own and stays as it is.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

# A command that is done within this many seconds says nothing of its way.
FIRST_SECONDS = 5.0
# From line to line it is twice as long, up to this: a log of a night stays short.
LONGEST_SECONDS = 60.0

# A line that is just written comes before the answer, unless nobody takes it.
LAST_LINE_SECONDS = 1.0

# Is told how many more of what is counted are done.
Advance = Callable[[int], None]


def uncounted(number: int) -> None:
    """Count nothing: nobody waits for it at a terminal."""


class Progress:
    """What a command has done so far. Its lines come from a thread of their own.

    So they come while the work stands still as well, and say that it does.

    Attributes:
        what: what is counted; "" for nothing.
        done: how many of them are done.
    """

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing done.

        Args:
            tell: what is done with a line; written to standard error if None.
            wait: waits for the end of the command, for so many seconds at most; true at its end.
            clock: seconds.
        """
        self._tell = tell or _write
        self._wait = wait
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self.what = ""
        self.done = 0

    def counting(self, what: str) -> Advance:
        """Count something from now on, from 0: "rows read"."""
        self.done = 0
        self.what = what
        return self.advance

    def advance(self, number: int) -> None:
        """Count so many more."""
        self.done += number

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join(LAST_LINE_SECONDS)

    def _run(self) -> None:
        began = self._clock()
        pause = FIRST_SECONDS
        before: tuple[str, int] | None = None
        while not self._wait(self._ended, pause):
            now = (self.what, self.done)
            counted = f": {self.done:,} {self.what}" if self.what else ""
            stands = ", none since the last line" if counted and now == before else ""
            self._tell(f"at work for {self._clock() - began:.0f} s{counted}{stands}")
            before = now
            pause = min(2 * pause, LONGEST_SECONDS)


def _write(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

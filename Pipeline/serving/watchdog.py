"""Ends the process when a piece of work never ends: a thread that hangs cannot be interrupted.

Python cannot stop native code, nor a thread. What hangs for ever would keep its messages from
everybody else, so the process goes instead, and the journal of what was in flight tells the next
start whom to blame.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from DurableText.closing import ClosedAtExit
from DurableText.command_line import EXIT_FAILED

logger = logging.getLogger(__name__)

# Limits are seconds to hours; so exactly are they kept.
LOOK_SECONDS = 0.5


class Watchdog(ClosedAtExit):
    """Looks at the work of other threads, in a thread of its own."""

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        """Begin to look; `end` ends the process."""
        self._end = end
        self._deadlines: dict[object, tuple[float, str]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def limit(self, seconds: float | None, exceeded: str) -> Iterator[None]:
        """End the process unless the context is left in time.

        Args:
            seconds: within which; None is for ever.
            exceeded: what is logged otherwise.
        """
        if seconds is None:
            yield
            return
        work = object()
        self._deadlines[work] = time.monotonic() + seconds, exceeded
        try:
            yield
        finally:
            del self._deadlines[work]

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            now = time.monotonic()
            for deadline, exceeded in tuple(self._deadlines.values()):
                if deadline <= now:
                    logger.critical("%s", exceeded, extra={"event": "hangs"})
                    self._end(EXIT_FAILED)
                    return

"""Ends the process when a piece of work never ends, or tells it: threads cannot be interrupted.

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
from contextlib import AbstractContextManager

from DurableText.closing import ClosedAtExit
from DurableText.command_line import EXIT_DONE, EXIT_FAILED
from Pipeline.stop import Stop

logger = logging.getLogger(__name__)

# Limits are seconds to hours; so exactly are they kept.
LOOK_SECONDS = 0.5


class Watchdog(ClosedAtExit):
    """Looks at the work of other threads, in a thread of its own."""

    def __init__(self, stop: Stop | None = None, end: Callable[[int], object] = os._exit) -> None:
        """Begin to look.

        Args:
            stop: once its grace is over, what has not ended is waited for no more.
            end: ends the process.
        """
        self._stop = stop
        self._end = end
        self._deadlines: dict[object, tuple[float, Callable[[], None]]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def limit(self, seconds: float | None, exceeded: str) -> AbstractContextManager[None]:
        """End the process unless the context is left in time.

        Args:
            seconds: within which; None is for ever.
            exceeded: what is logged otherwise.
        """
        return self._within(seconds, lambda: self._give_up(exceeded))

    def tell(self, seconds: float, exceeded: str) -> AbstractContextManager[None]:
        """Log a warning, once, unless the context is left in time.

        Args:
            seconds: within which.
            exceeded: what is logged otherwise.
        """
        return self._within(seconds, lambda: logger.warning("%s", exceeded))

    @contextlib.contextmanager
    def _within(self, seconds: float | None, otherwise: Callable[[], None]) -> Iterator[None]:
        if seconds is None:
            yield
            return
        work = object()
        self._deadlines[work] = time.monotonic() + seconds, otherwise
        try:
            yield
        finally:
            self._deadlines.pop(work, None)

    def _give_up(self, exceeded: str) -> None:
        logger.critical("%s", exceeded, extra={"event": "hangs"})
        self._end(EXIT_FAILED)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            now = time.monotonic()
            for work, (deadline, otherwise) in tuple(self._deadlines.items()):
                if deadline <= now and self._deadlines.pop(work, None) is not None:
                    otherwise()
            if self._deadlines and self._grace_is_over():
                logger.warning("stopping: what is being worked on does not end; it comes again")
                self._end(EXIT_DONE)

    def _grace_is_over(self) -> bool:
        return self._stop is not None and self._stop.requested and self._stop.grace_left <= 0

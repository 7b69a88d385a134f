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
from typing import NamedTuple

from DurableText.command_line import EXIT_DONE, EXIT_FAILED
from DurableText.program.closing import ClosedAtExit
from Pipeline.stop import Stop

logger = logging.getLogger(__name__)

# Limits are seconds to hours; so exactly are they kept.
LOOK_SECONDS = 0.5


class _Work(NamedTuple):
    """Work of another thread: until when, what is logged then, and whether the process ends."""

    deadline: float
    exceeded: str
    ends: bool


class Watchdog(ClosedAtExit):
    """Looks at the work of other threads, in a thread of its own."""

    def __init__(self, stop: Stop | None = None, end: Callable[[int], object] = os._exit) -> None:
        """Begin to look.

        Args:
            stop: once its grace is over, what has a limit and has not ended is waited for no more.
            end: ends the process.
        """
        self._stop = stop
        self._end = end
        self._lock = threading.Lock()
        self._watched: dict[object, _Work] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def limit(self, seconds: float | None, exceeded: str) -> AbstractContextManager[None]:
        """End the process unless the context is left in time.

        Args:
            seconds: within which; None is for ever.
            exceeded: what is logged otherwise.
        """
        if seconds is None:
            return contextlib.nullcontext()
        return self._watching(seconds, exceeded, ends=True)

    def tell(self, seconds: float, exceeded: str) -> AbstractContextManager[None]:
        """Log a warning, once, unless the context is left in time.

        Args:
            seconds: within which.
            exceeded: what is logged otherwise.
        """
        return self._watching(seconds, exceeded, ends=False)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._thread.join()

    @contextlib.contextmanager
    def _watching(self, seconds: float, exceeded: str, *, ends: bool) -> Iterator[None]:
        key = object()
        with self._lock:
            self._watched[key] = _Work(time.monotonic() + seconds, exceeded, ends)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(key, None)

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [key for key, work in self._watched.items() if work.deadline <= now]
                exceeded = [self._watched.pop(key) for key in late]
                at_work = any(work.ends for work in self._watched.values())
            for work in exceeded:
                self._tell(work)
            if at_work and self._grace_is_over():
                logger.warning("stopping: what is being worked on does not end; it comes again")
                self._end(EXIT_DONE)

    def _tell(self, work: _Work) -> None:
        if work.ends:
            logger.critical("%s", work.exceeded, extra={"event": "hangs"})
            self._end(EXIT_FAILED)
        else:
            logger.warning("%s", work.exceeded)

    def _grace_is_over(self) -> bool:
        return self._stop is not None and self._stop.requested and self._stop.grace_left <= 0

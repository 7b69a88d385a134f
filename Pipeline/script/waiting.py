"""Waiting for what passes by itself: not for ever once the script shall end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from Pipeline.observability.waiting import Reason, Waiting
from Pipeline.stop import Stop

logger = logging.getLogger(__name__)

# Between two tries of what passes by itself.
PAUSE_SECONDS = 1.0

Result = TypeVar("Result")


def wait_out(
    trouble: Mapping[type[Exception], Reason],
    attempt: Callable[[], Result],
    stop: Stop,
    waiting: Waiting,
    pause_seconds: float = PAUSE_SECONDS,
) -> Result | None:
    """Try until it works; tell the trouble once, and its end.

    Args:
        trouble: the errors that pass by themselves, and what is waited for then.
        attempt: what to try; it returns something other than None.
        stop: ends the waiting; once its grace is over, nothing is tried any more: an engine that
            hangs takes seconds to find that out, each time.
        waiting: told what is waited for.
        pause_seconds: between two tries.

    Returns:
        What `attempt` returned; None if the script shall stop.
    """
    telling = _Telling(trouble, waiting)
    try:
        while not stop.requested or stop.grace_left > 0:
            try:
                result = attempt()
            except tuple(trouble) as error:
                telling.begin(error)
                if stop.wait(pause_seconds):
                    return None
            else:
                telling.over()
                return result
        return None
    finally:
        telling.end()


class _Telling:
    """Says once in the log that something is waited for, and that it is over."""

    def __init__(self, trouble: Mapping[type[Exception], Reason], waiting: Waiting) -> None:
        self._trouble = trouble
        self._waiting = waiting
        self._reason: Reason | None = None
        self._since = 0.0

    def begin(self, error: Exception) -> None:
        """Note that what was tried has failed, perhaps again, perhaps for another reason."""
        reason = next(self._trouble[kind] for kind in self._trouble if isinstance(error, kind))
        if self._reason is None:
            self._since = time.monotonic()
            logger.warning(
                "%s; waiting",
                error,
                extra={"event": "waiting", "trouble": type(error).__name__},
            )
        elif reason is not self._reason:
            self._waiting.end(self._reason)
        self._reason = reason
        self._waiting.begin(reason, str(error))

    def over(self) -> None:
        """Note that it has worked."""
        if self._reason is not None:
            seconds = time.monotonic() - self._since
            logger.info(
                "it works again, after %.1f seconds",
                seconds,
                extra={"event": "waited", "seconds": round(seconds, 3)},
            )

    def end(self) -> None:
        """Nobody waits any more."""
        if self._reason is not None:
            self._waiting.end(self._reason)

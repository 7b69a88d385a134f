"""Waiting out what passes by itself: a full disk, a full queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from Pipeline.script.life_cycle import Stop

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0

Result = TypeVar("Result")


def wait_out(
    trouble: type[Exception] | tuple[type[Exception], ...],
    attempt: Callable[[], Result],
    stop: Stop,
) -> Result | None:
    """Try until it works; tell the trouble once, and its end.

    Args:
        trouble: the errors that pass by themselves.
        attempt: what to try; it returns something other than None.
        stop: ends the waiting.

    Returns:
        What `attempt` returned; None if the script shall stop.
    """
    told, since = False, 0.0
    while True:
        try:
            result = attempt()
        except trouble as error:
            if not told:
                since = time.monotonic()
                logger.warning(
                    "%s; waiting",
                    error,
                    extra={"event": "waiting", "trouble": type(error).__name__},
                )
            told = True
            if stop.wait(PAUSE_SECONDS):
                return None
        else:
            if told:
                seconds = time.monotonic() - since
                logger.info(
                    "it works again, after %.1f seconds",
                    seconds,
                    extra={"event": "waited", "seconds": round(seconds, 3)},
                )
            return result

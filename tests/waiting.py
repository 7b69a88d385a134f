"""How tests wait for what comes true by itself: as long as it takes, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05

Result = TypeVar("Result")


def wait_until(
    condition: Callable[[], object],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Look again and again until it is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(look_seconds)


def until_it_works(
    attempt: Callable[[], Result],
    trouble: type[Exception],
    seconds: float = PATIENCE_SECONDS,
    look_seconds: float = LOOK_SECONDS,
) -> Result:
    """Try again and again while there is this trouble; after `seconds` it is raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except trouble:
            if time.monotonic() > deadline:
                raise
            time.sleep(look_seconds)

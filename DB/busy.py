"""A DB's lock of its threads, for those that wait for it a while and no longer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from DB.errors import DatabaseUnavailableError
from DurableText.patience import taken_in_time


@contextlib.contextmanager
def held_by(lock: threading.Lock, deadline: float, name: str) -> Iterator[None]:
    """Hold the lock, taken until a deadline on the clock of `time.monotonic`.

    Raises:
        DatabaseUnavailableError: another thread has kept it all the time.
    """
    if not taken_in_time(lock, deadline):
        raise DatabaseUnavailableError(
            f"another thread is at work on the DB {name}, and has not come to its end in time: "
            "does the disk hang, or the server?"
        )
    try:
        yield
    finally:
        lock.release()


def left_until(deadline: float) -> float:
    """Return how many seconds there are left, 0 at least."""
    return max(0.0, deadline - time.monotonic())

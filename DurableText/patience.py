"""How long is waited: for a lock of another thread, for credentials that were taken before."""

from __future__ import annotations

import threading
import time

# Whoever changes a password changes it in two places, and not at once: so long it is tried (s).
REFUSED_LOGIN_SECONDS = 60.0


def taken_in_time(lock: threading.Lock | threading.RLock, deadline: float | None) -> bool:
    """Take a lock of this process's threads; tell whether it is taken.

    Args:
        lock: which.
        deadline: on the clock of `time.monotonic`; None waits without limit.
    """
    if deadline is None:
        return lock.acquire()
    return lock.acquire(timeout=min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX))


class Patience:
    """Tells a password that is just being changed from one that is wrong for good."""

    def __init__(self) -> None:
        """Begin with nothing refused."""
        self._since: float | None = None

    def renew(self) -> None:
        """Note that nobody refuses: it works, or nobody answers."""
        self._since = None

    def is_over(self) -> bool:
        """Note that the server refuses; tell whether it has done so for too long."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= REFUSED_LOGIN_SECONDS

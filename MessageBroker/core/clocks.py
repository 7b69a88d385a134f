"""Clocks that nobody sets."""

from __future__ import annotations

import time


def boot_time() -> float:
    """Return seconds that also count while the machine sleeps, where the system tells them.

    By this go leases that a broker elsewhere ends: it goes on meanwhile.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)

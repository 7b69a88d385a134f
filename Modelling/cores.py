"""How many cores there are to work with."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Count the cores that this process may use: a container often has less than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

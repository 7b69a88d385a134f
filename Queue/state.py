"""What this host keeps of a queue that is elsewhere: how its files are called."""

from __future__ import annotations

import hashlib

# Enough that no two queues of one host are taken for each other.
_DIGITS = 12


def state_stem(name: str) -> str:
    """Return what begins the names of all files that are kept of the queue with this name."""
    return f"queue-{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"

"""Moments in time as events carry them: RFC 3339 texts."""

from __future__ import annotations

import time
from datetime import datetime


def seconds_of(timestamp: object) -> float | None:
    """Parse RFC 3339 into seconds since 1970; None for what is none: foreign programs write too."""
    if not isinstance(timestamp, str):
        return None
    try:
        return datetime.fromisoformat(timestamp.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def age_of(timestamp: object, now: float | None = None) -> float | None:
    """Tell how many seconds ago a moment was; 0 for one in the future: clocks jump and differ."""
    moment = seconds_of(timestamp)
    if moment is None:
        return None
    return max(0.0, (time.time() if now is None else now) - moment)

"""Moments in time as events carry them: RFC 3339 texts."""

from __future__ import annotations

import time
from datetime import UTC, datetime

# No timestamp that anybody needs is longer; digits after the point may be any number.
MAX_TIME_CHARACTERS = 64


def timestamp(moment: datetime | None = None) -> str:
    """Format a moment as RFC 3339 in UTC with milliseconds; now if None."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def valid_time(text: str | None) -> str | None:
    """Return a foreign text if it is a moment in RFC 3339, time zone included; else None."""
    if text is None or len(text) > MAX_TIME_CHARACTERS:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return text if moment.tzinfo is not None else None


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

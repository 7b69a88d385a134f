"""Moments in time as records carry them: RFC 3339 texts. The project's one parser of them."""

from __future__ import annotations

import functools
import re
import time
from datetime import UTC, datetime

# No timestamp that anybody needs is longer; digits after the point may be any number.
MAX_CHARACTERS = 64

# ISO 8601 has more forms, which Python reads, and which the schemas of the events do not allow.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def timestamp(moment: datetime | None = None) -> str:
    """Format a moment as RFC 3339 in UTC with milliseconds; now if None."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def seconds_of(text: object) -> float | None:
    """Parse RFC 3339 into seconds since 1970; None for what is none: foreign programs write too.

    A time without its offset is none: nobody knows which moment it means.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())  # RFC 3339 allows a small t and z
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


@functools.lru_cache  # images that are published together have one time
def valid_time(text: str | None) -> str | None:
    """Return a foreign text, in capitals, if it is a moment in RFC 3339 with its offset; else None.

    Small letters are allowed there, but many readers of `date-time` do not know it.
    """
    if seconds_of(text) is None or text is None:
        return None
    return capitals if _RFC_3339.fullmatch(capitals := text.upper()) else None


def age_of(text: object, now: float | None = None) -> float | None:
    """Tell how many seconds ago a moment was; 0 for one in the future: clocks jump and differ."""
    moment = seconds_of(text)
    if moment is None:
        return None
    return max(0.0, (time.time() if now is None else now) - moment)

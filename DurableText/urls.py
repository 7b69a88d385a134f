"""Whether the place of a queue or a DB is a URL, which names a server, or a path."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(where: str | os.PathLike[str]) -> str | None:
    """Return the scheme of a URL, in small letters; None for a path."""
    match = _SCHEME.match(where) if isinstance(where, str) else None
    return match[1].lower() if match else None

"""What the stories of the behaviours are told with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from DB import ResultDatabase

Result = dict[str, Any]


def numbered(count: int, label: str = "7", start: int = 0) -> list[Result]:
    """Make results with the ids "0", "1", …"""
    return [{"id": str(n), "label": label} for n in range(start, start + count)]


def ids_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ids of rows, in their order."""
    return [row["id"] for row in rows]


def without_time(row: Mapping[str, Any] | None) -> Result | None:
    """Return a row as the result that it was."""
    if row is None:
        return None
    return {name: value for name, value in row.items() if name != "stored_at"}


def stored_once(db: ResultDatabase, ids: Iterable[str]) -> bool:
    """Tell whether each of the ids is stored, and none stands twice."""
    stored = ids_of(db)
    return len(stored) == len(set(stored)) and set(ids) <= set(stored)


def until_it_works(attempt: Callable[[], Any], trouble: type[Exception]) -> Any:
    """Try again as the scripts do, for half a minute at most."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except trouble:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

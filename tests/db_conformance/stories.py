"""What the stories of the behaviours are told with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from DB import DatabasePassingError, ResultDatabase
from tests import waiting

Result = dict[str, Any]

# Try again as the scripts do.
until_it_works = partial(waiting.until_it_works, trouble=DatabasePassingError)


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

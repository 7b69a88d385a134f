"""What other programs wrote, made fit to be shown: bounded, and without what steers a screen.

The page shows texts as texts, never as markup. What is left to do here is that a label of a
megabyte fills no screen and no stream, and that invisible characters are seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from DurableText.program.wording import brief

# Fields of one result, and members of a list in it.
MAX_FIELDS = 50
MAX_MEMBERS = 100
# A bound on what stands inside one another.
MAX_DEPTH = 3


def shown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as it is shown."""
    shown: dict[str, Any] = _shown(dict(row), 0)
    return shown


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return brief(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)[:40]
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        some = list(value.items())[:MAX_FIELDS]
        return {brief(str(name)): _shown(each, depth + 1) for name, each in some}
    if isinstance(value, (list, tuple)):
        return [_shown(each, depth + 1) for each in value[:MAX_MEMBERS]]
    return brief(str(value))

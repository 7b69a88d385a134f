"""When a DB in a text file begins a new part, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class Rotation:
    """When a new part begins, and how many are kept.

    Attributes:
        bytes: at most so many are in one part, but for the insert that reaches it.
        days: from a part's first row on.
        keep: so many parts beside the text that is written; None keeps all.
    """

    bytes: int | None = None
    days: float | None = None
    keep: int | None = None

    def is_due(self, size: int, age: float | None) -> bool:
        """Tell whether a text of `size` bytes, whose first row is `age` seconds old, is full."""
        if self.bytes is not None and size >= self.bytes:
            return True
        return self.days is not None and age is not None and age >= self.days * SECONDS_PER_DAY

"""What became of the dead letters that were settled at the page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from DurableText.moments import timestamp

# Of so many letters it is known what became of them; the oldest are forgotten.
MAX_OUTCOMES = 10_000


class LetterOutcomes:
    """What was noted of each letter, by its id. Any thread may use it."""

    def __init__(self) -> None:
        """Begin with nothing noted."""
        self._lock = threading.Lock()
        self._outcomes: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def note(
        self, letter_ids: Collection[str], outcome: dict[str, Any], name_of: Callable[[str], str]
    ) -> None:
        """Note what became of letters; what was noted before and is not said anew stays.

        Args:
            letter_ids: of the letters.
            outcome: the same for all of them.
            name_of: names a letter of which nothing was noted yet.
        """
        with self._lock:
            for letter_id in letter_ids:
                before = self._outcomes.pop(letter_id, None) or {"what": name_of(letter_id)}
                self._outcomes[letter_id] = {**before, **outcome, "at": timestamp()}
            while len(self._outcomes) > MAX_OUTCOMES:
                self._outcomes.popitem(last=False)

    def of(self, letter_id: str) -> dict[str, Any] | None:
        """Return what became of a letter; None if nothing was noted."""
        with self._lock:
            return self._outcomes.get(letter_id)

    def latest(self, count: int) -> list[dict[str, Any]]:
        """Return what was noted last, the newest first."""
        with self._lock:
            some = list(self._outcomes.items())[-count:]
        return [{"id": letter_id, **told} for letter_id, told in reversed(some)]

"""The DB as the page shows it: the newest results, filtered, and the summary's figures."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from DB import DatabaseError, ResultDatabase
from DurableText.moments import timestamp
from DurableText.program.wording import brief
from Pipeline.page.pictures import Pictures
from Pipeline.page.texts import shown_row

# Filters look through so many of the newest rows.
ROWS_LOOKED_THROUGH = 5000
MAX_ROWS = 200
DEFAULT_ROWS = 50
# The summary reads the whole DB. Between two readings is so many times what one takes, and at
# least so many seconds.
SUMMARY_PAUSE = 20
SHORTEST_SUMMARY_SECONDS = 2.0


@dataclass(frozen=True)
class Query:
    """Which results are wanted; None is any.

    Attributes:
        label: the label.
        model: what the model's name and version begin with.
        below: the confidence is below this.
        wrong: the label is not the one that was expected.
        least_sure_first: in the order of confidence, not of time.
        count: how many at most.
    """

    label: str | None = None
    model: str | None = None
    below: float | None = None
    wrong: bool = False
    least_sure_first: bool = False
    count: int = DEFAULT_ROWS

    def takes(self, row: dict[str, Any]) -> bool:
        """Tell whether a result is wanted."""
        if self.label is not None and str(row.get("label")) != self.label:
            return False
        if self.model is not None and not str(row.get("model")).startswith(self.model):
            return False
        if self.below is not None and confidence_of(row) >= self.below:
            return False
        return not self.wrong or row.get("expected_label") not in (None, row.get("label"))


class Results:
    """Looks into the DB. Its methods wait for it, and are for any thread."""

    def __init__(self, db: ResultDatabase, pictures: Pictures) -> None:
        """Look into nothing yet.

        Args:
            db: which one.
            pictures: of images that were published lately.
        """
        self._db = db
        self._pictures = pictures
        self._lock = threading.Lock()
        self._summary: dict[str, Any] | None = None
        self._counting = False
        self._count_again_at = 0.0

    def newest(self, query: Query) -> dict[str, Any]:
        """Return the newest results that are wanted.

        Raises:
            DatabaseError: the DB cannot be read.
        """
        rows = self._db.newest(ROWS_LOOKED_THROUGH)
        found = [row for row in rows if query.takes(row)]
        if query.least_sure_first:
            found.sort(key=confidence_of)
        return {
            "results": [self._shown(row) for row in found[: query.count]],
            "found": len(found),
            "looked_through": len(rows),
            "db": brief(self._db.name),
        }

    def get(self, result_id: str) -> dict[str, Any] | None:
        """Return the result with an id; None if it is not stored.

        Raises:
            DatabaseError: the DB cannot be read.
        """
        row = self._db.get(result_id)
        return None if row is None else self._shown(row)

    def summary(self) -> dict[str, Any]:
        """Return the last summary that was counted, and count again if it is time.

        It says `counting` while a reading is under way, by whomever.
        """
        with self._lock:
            if not self._counting and time.monotonic() >= self._count_again_at:
                self._counting = True
                threading.Thread(target=self._count, name="summary", daemon=True).start()
            return {"summary": self._summary, "counting": self._counting}

    def _count(self) -> None:
        began = time.monotonic()
        try:
            told = shown_row(self._db.summary().as_dict())
        except DatabaseError as error:
            told = {"error": brief(str(error))}
        seconds = time.monotonic() - began
        with self._lock:
            self._summary = {**told, "counted_at": timestamp()}
            self._counting = False
            self._count_again_at = began + max(
                SHORTEST_SUMMARY_SECONDS, (1 + SUMMARY_PAUSE) * seconds
            )

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**shown_row(row), "has_picture": self._pictures.has(row.get("id"))}


def confidence_of(row: dict[str, Any]) -> float:
    """Return a result's confidence; one that says none is sure."""
    confidence = row.get("confidence")
    return float(confidence) if isinstance(confidence, (int, float)) else 1.0

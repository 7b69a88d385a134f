"""The pipeline as it is now, again and again: what `Pipeline.watch` shows, on the board."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from DB import ResultDatabase
from DurableText.moments import age_of
from DurableText.program.wording import printable
from Pipeline.observability.overview import Overview
from Pipeline.page.board import Board
from Pipeline.page.journeys import Journeys
from Pipeline.page.pictures import Pictures
from Pipeline.page.texts import shown_row

logger = logging.getLogger(__name__)

# Between two looks at the metrics, and at the DB: the page is never more than a second behind.
LOOK_SECONDS = 1.0
DB_LOOK_SECONDS = 0.25
# The last results as pictures.
LAST_RESULTS = 12
# An image comes to us about when its result is stored; where it takes longer there is none.
PICTURE_SECONDS = 1.0
# So many a second may be stored, that still some with their pictures are found.
ROWS_LOOKED_AT = 400
# Of the curves: three minutes, at a look a second.
CURVE_POINTS = 180


class Live:
    """Looks until it is closed."""

    def __init__(
        self,
        targets: Sequence[str],
        db: ResultDatabase,
        board: Board,
        journeys: Journeys,
        pictures: Pictures,
    ) -> None:
        """Begin to look, in threads.

        Args:
            targets: HOST:PORT of each script; none for the usual.
            db: for the last results, and for those that are awaited.
            board: where it is said.
            journeys: the images that are followed.
            pictures: of the last results.
        """
        self._overview = Overview(targets, db)
        self._board = board
        self._journeys = journeys
        self._pictures = pictures
        self._curves: dict[str, deque[dict[str, Any]]] = {}
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=each, name=name, daemon=True)
            for name, each in {
                "metrics": (self._look, LOOK_SECONDS),
                # Apart: a DB that hangs keeps nothing else from being seen.
                "results": (self._look_at_results, LOOK_SECONDS),
                "rows": (journeys.look_into_db, DB_LOOK_SECONDS),
            }.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        for thread in self._threads:
            thread.join(LOOK_SECONDS)

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the last minutes were like, by target, oldest first."""
        return {target: list(points) for target, points in list(self._curves.items())}

    def _run(self, look: Callable[[], None], pause: float) -> None:
        due = time.monotonic()
        while True:
            try:
                look()
            except Exception:
                # What is shown grows old, which is seen; nothing else may suffer from it.
                logger.exception("a look at the pipeline failed")
            due = max(due + pause, time.monotonic())
            if self._closed.wait(due - time.monotonic()):
                return

    def _look(self) -> None:
        self._overview.look()
        now = time.time()
        told = self._overview.as_dict()
        for stage in told["stages"]:
            curve = self._curves.setdefault(stage["target"], deque(maxlen=CURVE_POINTS))
            curve.append({"at": now, **{name: stage[name] for name in ("rate", "waiting", "p99")}})
        told["problems"] = [printable(each) for each in told["problems"]]
        told["stages"] = [shown_row(stage) for stage in told["stages"]]
        self._board.post("live", {"at": now, **told})

    def _look_at_results(self) -> None:
        now = time.time()
        self._board.post("results", {"at": now, "results": self._last_results(now)})

    def _last_results(self, now: float) -> list[dict[str, Any]]:
        """Return the last results; but for those whose picture is still on its way to us."""
        results: list[dict[str, Any]] = []
        for row in self._overview.last_results(ROWS_LOOKED_AT):
            has_picture = self._pictures.has(row.get("id"))
            age = age_of(row.get("stored_at"), now)
            if has_picture or age is None or age > PICTURE_SECONDS:
                results.append({**shown_row(row), "has_picture": has_picture})
            if len(results) == LAST_RESULTS:
                break
        return results

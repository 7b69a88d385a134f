"""What a person sees of a running pipeline, wherever it is shown: in a terminal, or on a page."""

from __future__ import annotations

import argparse
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from DB import DatabaseError, ResultDatabase
from DurableText.moments import seconds_of
from Pipeline.observability.stages import (
    USUAL_PORTS,
    Stage,
    WatchedPipeline,
    pairwise_rates,
    problems,
)

# Two minutes, at a look a second.
CURVE_POINTS = 120


class Overview:
    """Looks again and again, and remembers the last minutes for the curve.

    Attributes:
        stages: as they were at the last look, in the order of the pipeline.
        problems: what a person should look at.
    """

    def __init__(self, targets: Sequence[str], db: ResultDatabase) -> None:
        """Begin with nothing seen.

        Args:
            targets: HOST:PORT of each script, all of which should answer; none for the usual.
            db: for the last results.
        """
        usual = [target(str(port)) for port in USUAL_PORTS.values()]
        self._pipeline = WatchedPipeline(targets or usual, named=bool(targets))
        self._db = db
        self._stored: deque[tuple[float, int]] = deque(maxlen=CURVE_POINTS)
        self.stages: list[Stage] = []
        self.problems: list[str] = []

    def look(self) -> None:
        """Ask all scripts."""
        self.stages = self._pipeline.look()
        self.problems = problems(self.stages)
        stored = sum(stage.total for stage in self.stages if stage.script == "app_2")
        self._stored.append((time.monotonic(), stored))

    @property
    def rates(self) -> list[float]:
        """Results stored a second, oldest first."""
        return pairwise_rates(list(self._stored))

    def last_results(self, number: int) -> list[dict[str, Any]]:
        """Return the last rows of the DB, newest first."""
        return last_rows(self._db, number)

    def as_dict(self) -> dict[str, Any]:
        """Say how all stands, as JSON-able values."""
        return {
            "well": not self.problems,
            "problems": self.problems,
            "stages": [asdict(stage) for stage in self.stages],
        }


def target(text: str) -> str:
    """Parse HOST:PORT or PORT."""
    match = re.fullmatch(r"(?:([^:/\s]+|\[[0-9a-fA-F:.]+\]):)?(\d{1,5})", text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is neither HOST:PORT nor PORT")
    return f"{match[1] or 'localhost'}:{match[2]}"


def last_rows(db: ResultDatabase, number: int) -> list[dict[str, Any]]:
    """Read the last rows of a DB, newest first; none if it is not to be had from this machine."""
    try:
        return db.newest(number)
    except DatabaseError:
        return []


def latency_of(row: dict[str, Any]) -> float | None:
    """Seconds from published to stored; None where a row does not say."""
    start, end = seconds_of(row.get("published_at")), seconds_of(row.get("stored_at"))
    return None if start is None or end is None else max(0.0, end - start)

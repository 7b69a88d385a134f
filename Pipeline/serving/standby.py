"""Whose turn it is on a file on which one process at a time works; another one stands by."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from Pipeline.observability.metrics import Metrics

logger = logging.getLogger(__name__)


class Turn:
    """Tells the metrics whether this process stands by, and the log when it takes over."""

    def __init__(self, path: str | Path, metrics: Metrics) -> None:
        """Begin before the first look at the file.

        Args:
            path: the file; or a URL, at which several may work at a time.
            metrics: told of every change.
        """
        self._path = path
        self._metrics = metrics
        self._since = time.monotonic()
        self._stood_by = False

    def wait(self) -> None:
        """Another process works on the file."""
        if not self._stood_by:
            self._since = time.monotonic()
        self._stood_by = True
        self._metrics.standing_by(True)

    def begin(self) -> None:
        """Note that this process works on the file from now on."""
        self._metrics.standing_by(False)
        if not self._stood_by:
            return
        self._stood_by = False
        seconds = time.monotonic() - self._since
        logger.info(
            "%s: taken over, after %.1f seconds of standing by",
            self._path,
            seconds,
            extra={"event": "take-over", "file": str(self._path), "seconds": round(seconds, 3)},
        )

"""Pieces of a batch, each run by one thread, side by side on all cores.

A runtime that shares each layer out among its threads makes them wait for each other, layer by
layer, and awake; what takes a core from one of them for a moment is paid for by all. Side by side
nobody waits for anybody before the end.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

# Pieces for each thread, at least: a thread that comes late leaves its share to the others.
PIECES_A_THREAD = 4


class SideBySide:
    """Threads that call a network, each for itself."""

    def __init__(self, call: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], threads: int) -> None:
        """Begin no thread yet.

        Args:
            call: Runs the network on a batch, in one thread; several call it at once.
            threads: How many.
        """
        self.call = call
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="network")

    def step(self, images: int, most: int) -> int | None:
        """Return how many images a piece has; None for a batch that all cores should share.

        Args:
            images: Of the batch.
            most: That all threads together may run at once.
        """
        if images < 2 * self._threads:
            return None
        return max(1, min(most // self._threads, images // (PIECES_A_THREAD * self._threads)))

    def run(self, work: Callable[[int], None], starts: range) -> None:
        """Do the work for each start; returns when all are done, and raises what one raised."""
        for done in [self._pool.submit(work, start) for start in starts]:
            done.result()

"""Pieces of a batch, each run by one thread, side by side on all cores.

A runtime that shares each layer out among its threads makes them wait for each other, layer by
layer, and awake: what takes a core from one of them for a moment is paid for by all. Side by side
nobody waits for anybody before the end (benchmarks/NOTES.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from Modelling.cores import stay_on

# Runs a network on a batch.
Call = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

# Pieces for each thread: one that is held up leaves what it has not begun to the others.
PIECES_A_THREAD = 4


class SideBySide:
    """Threads that call a network, each for itself.

    Attributes:
        call: Runs it on a piece, in one thread.
    """

    def __init__(self, call: Call, threads: int, cores: Sequence[int] = ()) -> None:
        """Begin no thread yet.

        Args:
            call: See above; called by several threads at once.
            threads: How many.
            cores: One for each; none where the system places them.
        """
        self.call = call
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "network", _take_a_core, (iter(cores),))

    def piece(self, images: int, most: int) -> int | None:
        """Return how many images a piece has; None for a batch that all cores should share.

        Args:
            images: Of the batch.
            most: That all threads together may run at once.
        """
        if images < 2 * self._threads:
            return None
        return max(1, min(most // self._threads, images // (PIECES_A_THREAD * self._threads)))

    def run(self, work: Callable[[int], None], starts: range) -> None:
        """Do the work from each start on; return when all is done, and raise what one raised.

        Each thread takes the next piece by itself: to hand over each, and to hear of it, wakes a
        thread twice.
        """
        left = iter(starts)

        def take() -> None:
            for start in left:  # one that several threads may ask
                work(start)

        for done in [self._pool.submit(take) for _ in range(min(self._threads, len(starts)))]:
            done.result()


def _take_a_core(cores: Iterator[int]) -> None:
    core = next(cores, None)
    if core is not None:
        stay_on((core,))

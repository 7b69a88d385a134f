"""How many images the server takes at once: more while the model answers them quickly.

Large batches spread what each costs beside the model: a sync, transactions, hand-overs of threads.
But what is taken from the broker waits for its answer, and has a lease; and a slow model mostly has
large inputs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

from Pipeline.serving.model_server import Received

Outcome = TypeVar("Outcome")

# What any model gets: enough for one of photographs.
FIRST_SIZE = 256
# As much more as a model answers within this (s).
QUICK_SECONDS = 0.25


class BatchSize:
    """The size of the next batch.

    Attributes:
        current: how many images are taken next, at most.
    """

    def __init__(self, most: int) -> None:
        """Begin small.

        Args:
            most: `--batch-size`, which is never exceeded.
        """
        self._most = most
        self.current = min(FIRST_SIZE, most)

    def after(self, size: int, seconds: float) -> None:
        """Learn from a batch how long its images took; one that was not full tells nothing."""
        if size >= self.current:
            quickly = int(size * QUICK_SECONDS / max(seconds, 1e-6))
            self.current = min(self._most, max(FIRST_SIZE, quickly))

    def measuring(self, work: Callable[[Received], Outcome]) -> Callable[[Received], Outcome]:
        """Return `work`, which is learned from."""

        @functools.wraps(work)
        def measured(received: Received) -> Outcome:
            began = time.monotonic()
            outcome = work(received)
            self.after(len(received.messages), time.monotonic() - began)
            return outcome

        return measured

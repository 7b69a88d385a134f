"""Steps that overlap: the next batch is received, and the last one stored, beside the work.

The work itself stays with the thread that runs it all, for a model may be bound to its thread. A
small batch has little to overlap with: that thread takes it from its beginning to its end, as each
hand-over to another one costs a wake-up. Nothing waits before a step: a slow one holds back those
before it (back-pressure), and memory stays flat.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ContextDecorator
from typing import TypeVar

from Pipeline.stop import Stop

Batch = TypeVar("Batch")
Outcome = TypeVar("Outcome")


def in_steps(
    batches: Iterator[Batch],
    work: Callable[[Batch], Outcome],
    store: Callable[[Outcome], None],
    is_large: Callable[[Batch], bool],
    stop: Stop,
) -> None:
    """Work on each batch and store what came of it, in order, until there are no more.

    Where something fails, the script is asked to stop, and nothing more is stored: what was
    received and not acked comes again.

    Args:
        batches: what is received; asked by one thread at a time.
        work: done by the thread that calls this.
        store: is given what `work` returned; called by one thread at a time.
        is_large: tells whether a batch is worth the hand-overs.
        stop: the script's.
    """
    ends_all = _EndsAll(stop)  # also where nobody waits for a step: more may never be received
    receive, store = ends_all(functools.partial(next, batches, None)), ends_all(store)
    stored: Future[None] = Future()
    stored.set_result(None)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="receive") as receiving,
        ThreadPoolExecutor(1, thread_name_prefix="store") as storing,
        ends_all,
    ):
        batch: Batch | None = receive()
        while batch is not None:
            coming = receiving.submit(receive) if is_large(batch) else None
            outcome = work(batch)
            stored.result()
            if coming is None:
                store(outcome)
                batch = receive()
            else:
                stored = storing.submit(store, outcome)
                batch = coming.result()
        stored.result()


class _EndsAll(ContextDecorator):
    """Asks the script to stop where something fails."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        """Nothing has failed yet."""

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        if exc_type is not None:
            self._stop.request()

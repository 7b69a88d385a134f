"""The form of a compiled network that is quickest on this CPU: packed or as it came.

A packing multiplies more, and pays or not as the CPU is made. So each is tried when a network is
opened: the shipped one takes 17 µs an image for 39 with AMX (`python -m benchmarks.engine`). One
that answers otherwise is never served.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from Modelling.network.packing import packable_convolutions, packed, packings_of

logger = logging.getLogger(__name__)

# A larger file is no small network, and would be copied for each packing.
MOST_BYTES = 16 << 20

# Images that each form is tried on, how often, and the CPU time that all of them may take (s): a
# start must not wait for what it is to gain.
TRIED_IMAGES = 64
TRIALS = 4
TRIAL_SECONDS = 0.2
# Of the time of the best one: what is hardly quicker is chance.
QUICKER = 0.95


class Runs(Protocol):
    """A form that can be run."""

    input_shape: tuple[int, int, int]

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Engine.run`."""
        ...


def quickest_form(compiled: bytes, opened: Callable[[bytes], Runs]) -> bytes:
    """Return the form of a network that is quickest on this CPU; `compiled` itself if none is.

    Args:
        compiled: A `.tflite` file that can be opened.
        opened: Opens a form for one thread.
    """
    if len(compiled) > MOST_BYTES:
        return compiled
    try:
        return _quickest_form(compiled, opened)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file holds: it is served as it is
        logger.debug("no form was packed: %s", error)
        return compiled


def _quickest_form(compiled: bytes, opened: Callable[[bytes], Runs]) -> bytes:
    numbers = packable_convolutions(compiled)
    if not numbers:
        return compiled
    engine = opened(compiled)
    if TRIED_IMAGES * _cpu_seconds(engine, _images(1, engine)) * TRIALS > TRIAL_SECONDS:
        return compiled
    images = _images(TRIED_IMAGES, engine)  # now that they are known to be small
    answers = engine.run(images)
    best, least = compiled, _cpu_seconds(engine, images)
    spent = least * TRIALS
    for number in numbers:
        base = best
        for packing in packings_of(base, number):
            if spent > TRIAL_SECONDS:
                return best
            form = packed(base, number, packing)
            engine = opened(form)
            if not np.array_equal(engine.run(images), answers):
                continue
            seconds = _cpu_seconds(engine, images)
            spent += seconds * TRIALS
            if seconds < QUICKER * least:
                best, least = form, seconds
                logger.debug("convolution %d in %s: %.1f ms", number, packing, 1e3 * seconds)
    return best


def _images(count: int, engine: Runs) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((count, *engine.input_shape), np.float32)


def _cpu_seconds(engine: Runs, images: npt.NDArray[np.float32]) -> float:
    """Measure this thread's: what else the machine does meanwhile counts little."""
    least = float("inf")
    for _ in range(TRIALS):
        began = time.thread_time()
        engine.run(images)
        least = min(least, time.thread_time() - began)
    return least

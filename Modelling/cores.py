"""How many cores there are to work with, and which of them a thread takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from DurableText.program.option_types import number

# More than any machine has. With far more threads the system refuses some, and LiteRT crashes.
MAX_THREADS = 1024


def available_cores() -> int:
    """Count the cores that this process may use: a container often has less than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stay_on(cores: Iterable[int]) -> None:
    """Keep the calling thread on these cores; where they were taken away meanwhile, on any."""
    with contextlib.suppress(OSError):  # the cores of a container may be changed while it runs
        os.sched_setaffinity(0, cores)


def threads_option(text: str) -> int:
    """Parse a number of threads, an option of argparse's."""
    meaning = f"a number of threads from 1 to {MAX_THREADS}"
    return number(text, int, meaning, lambda value: 1 <= value <= MAX_THREADS)

"""The threads of ONNX Runtime: how many, on which cores, and how they wait for work."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from Modelling.cores import available_cores, stay_on

# From this version on it can be said how long threads spin.
BOUNDED_SPINNING = (1, 26)

# From one layer to the next. What is left of it after a run costs 3 % of the CPU time.
SPIN_MICROSECONDS = 30


@dataclass(frozen=True)
class Threads:
    """The threads of one session.

    Attributes:
        count: How many work on a call, the one that calls among them.
        cores: Of each its own, the caller's first; empty where the system places them.
    """

    count: int
    cores: tuple[int, ...] = ()

    def entries(self, version: str) -> dict[str, str]:
        """Return what a session is told beside the number, by name without `session.intra_op`."""
        told = {f".{name}": value for name, value in waiting_of_threads(version).items()}
        if len(self.cores) > 1:
            # It counts cores from one, and makes no thread for the caller.
            told["_thread_affinities"] = ";".join(str(core + 1) for core in self.cores[1:])
        return told

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Keep the caller on its core for the time of a call, if it has one."""
        if not self.cores:
            yield
            return
        allowed = os.sched_getaffinity(0)
        stay_on(self.cores[:1])
        try:
            yield
        finally:
            stay_on(allowed)


def threads_of(wanted: int | None) -> Threads:
    """Choose the threads of a session, and place them where all cores are the model's.

    So does the runtime by its own default; being told a number, it leaves it to the system. On a
    virtual machine that wakes a thread on the core of whoever wakes it, as a core that idles there
    looks as if another guest had it; the two then share a core for the whole call.

    Args:
        wanted: So many, wherever the system puts them; one on each core if None.
    """
    if wanted is None and hasattr(os, "sched_getaffinity"):
        cores = tuple(sorted(os.sched_getaffinity(0)))
        return Threads(len(cores), cores if len(cores) > 1 else ())
    return Threads(wanted or available_cores())


def waiting_of_threads(version: str) -> dict[str, str]:
    """Tell how the runtime's threads wait for work: briefly awake where it can do that.

    By its own default they spin for tens of milliseconds after each run: on cores that others need,
    for decoding and the brokers, that costs more than waking costs. Asleep they are woken for each
    layer. Between the two lies what bridges the gap between two layers (benchmarks/NOTES.md).
    """
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < BOUNDED_SPINNING:
        return {"allow_spinning": "0"}
    return {"allow_spinning": "1", "spin_duration_us": str(SPIN_MICROSECONDS)}

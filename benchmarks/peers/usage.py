"""What processes and their descendants have spent, and what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psutil


def tree(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """Yield the processes and all that descend from them."""
    for pid in pids:
        try:
            process = psutil.Process(pid)
            yield from (process, *process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time, of those that live and of their children that have ended."""
    total = 0.0
    for process in tree(pids):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def memory_mb(pids: Iterable[int]) -> float:
    """Memory in MiB: PSS, which counts what is shared by its share; RSS where there is none."""
    total = 0
    for process in tree(pids):
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(memory, "pss", memory.rss)
    return total / 2**20

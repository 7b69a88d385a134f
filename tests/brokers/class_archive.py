"""Kafka's classes, read and verified once and mapped ever after: half of a broker's start."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path


def make_once(archive: Path, record: Callable[[Path], bool]) -> None:
    """Make an archive that is missing, unless somebody is about to: then one starts without it.

    Args:
        archive: the file, which is there when it is complete.
        record: runs a JVM that writes it, to the path that it is given, and tells whether it is
            complete. What it starts finds that somebody is about to make the archive.
    """
    if archive.exists():
        return
    # Gone with its process, however that ends.
    with archive.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if archive.exists():  # since a moment ago
            return
        partial = archive.with_suffix(".partial")
        if record(partial) and partial.exists():
            partial.rename(archive)

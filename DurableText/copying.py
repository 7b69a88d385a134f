"""Copies files that others write to meanwhile: for backups."""

from __future__ import annotations

import os
from pathlib import Path

from DurableText.codec import CHUNK_BYTES, MAX_LINE_BYTES
from DurableText.storage import STORAGE, naming, write_all

# A rotation, a sealing or a removal meanwhile: then all of it is looked at anew, so often.
ATTEMPTS = 20


class ChangedMeanwhileError(OSError):
    """Raised when what is copied has changed so often that no copy was whole."""


def whole_lines(fd: int) -> int:
    """Return how far whole lines go in an open file: what is behind is being written."""
    size = STORAGE.stat_open(fd).st_size
    start = max(0, size - MAX_LINE_BYTES)
    return start + STORAGE.read(fd, size - start, start).rfind(b"\n") + 1


def copy_open(fd: int, target: Path, end: int) -> int:
    """Copy the first `end` bytes of an open file to a new one; return how many there were."""
    copied = 0
    new = STORAGE.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        while copied < end:
            data = STORAGE.read(fd, min(CHUNK_BYTES, end - copied), copied)
            if not data:
                break
            with naming(target):
                write_all(STORAGE, new, data, copied)
            copied += len(data)
        with naming(target):
            STORAGE.sync(new)
    finally:
        STORAGE.close(new)
    return copied


def copy_file(source: Path, target: Path) -> None:
    """Copy a file as it is now to a new one, durably."""
    fd = STORAGE.open(source, os.O_RDONLY)
    try:
        copy_open(fd, target, STORAGE.stat_open(fd).st_size)
    finally:
        STORAGE.close(fd)

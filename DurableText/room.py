"""How much a file and those beside it take, and what is left on their disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """The room of a queue or a DB in files.

    Attributes:
        taken: bytes of its file and its side files, which begin with the same stem.
        free: bytes that this user may still write on their disk.
    """

    taken: int
    free: int


def room_of(path: Path) -> Room | None:
    """Look; None where there is no such folder yet."""
    stem = f"{path.stem}."
    try:
        with os.scandir(path.parent) as entries:
            taken = sum(_size_of(each) for each in entries if each.name.startswith(stem))
        return Room(taken, shutil.disk_usage(path.parent).free)
    except OSError:
        return None


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except OSError:  # it has just gone
        return 0

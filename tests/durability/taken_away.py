"""What a person, a backup or a tool does to a file that is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def delete(path: Path, _older: bytes) -> None:
    path.unlink()


def replace(path: Path, older: bytes) -> None:
    """As `mv` of a copy does."""
    other = path.with_name("another")
    other.write_bytes(older)
    other.replace(path)


def copy_over(path: Path, older: bytes) -> None:
    """As `cp` of a copy does: the file stays the same one."""
    path.write_bytes(older)


def truncate(path: Path, _older: bytes) -> None:
    """As logrotate's copytruncate does."""
    os.truncate(path, 0)


def move(path: Path, _older: bytes) -> None:
    shutil.move(path, path.with_name("moved"))


TAKEN: dict[str, Callable[[Path, bytes], None]] = {
    "deleted": delete,
    "replaced by an older copy": replace,
    "overwritten by an older copy": copy_over,
    "truncated": truncate,
    "moved": move,
}

"""How bytes reach the disk itself."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

# On macOS `fsync` stops at the drive's cache, and only this call goes on; None elsewhere.
FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync(fd: int) -> None:
    """Return once the file's bytes and its size are on the disk.

    Raises:
        OSError: they may not be. The system tells it once, and takes for written what was not.
    """
    if FULL_SYNC is not None:
        fcntl.fcntl(fd, FULL_SYNC)
    else:
        os.fdatasync(fd)


def sync_path(path: Path) -> None:
    """Return once the bytes of a file, or the names in a folder, are on the disk; see `sync`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.fsync(fd)
        else:
            sync(fd)
    finally:
        os.close(fd)

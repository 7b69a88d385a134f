"""How bytes reach the disk itself."""

from __future__ import annotations

import fcntl
import os

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

"""Files that a user asked for, checked before the work that fills them."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, making its folder; a file that is there stays.

    Raises:
        OSError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # but no folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()

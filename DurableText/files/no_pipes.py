"""Opening a file that is read, where somebody may have put something else in its place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_no_pipe(path: str | Path, flags: int, mode: int) -> int:
    """Open a file as `os.open` does; its descriptor closes on exec.

    Opening a pipe would wait, for ever perhaps, until somebody opens its other end.

    Raises:
        OSError: it cannot be opened, or is a pipe or a folder.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    except OSError as error:
        if error.errno == errno.ENXIO:  # to write alone, and nobody reads
            raise _refusal(path) from error
        raise
    kind = os.fstat(fd).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISDIR(kind):
        os.close(fd)
        if stat.S_ISDIR(kind):  # which reads would tell, without its name
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise _refusal(path)
    return fd


def _refusal(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "a pipe, not a file: move it away", str(path))

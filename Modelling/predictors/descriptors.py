"""Whether other code in this process has closed descriptors that are not its own.

Code that makes a process a daemon closes all that are open, and the broker's, the queue's and the
journal's are among them. Whatever is opened next has their numbers: who goes on writes into the
files of others. None of those can be asked without knowing all of them. So two descriptors that
are used for nothing stand for them, one with a low number and one with a high one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os

# The lowest number of the one behind the files of a script.
HIGH = 200


class Marks:
    """Descriptors that nobody but this class knows of."""

    def __init__(self) -> None:
        """Open them: the end of a pipe of which there is no other."""
        reader, writer = os.pipe()
        os.close(writer)
        self._numbers = [reader]
        with contextlib.suppress(OSError, ValueError):  # fewer may be open
            self._numbers.append(fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, HIGH))
        self._file = _identity(reader)

    @property
    def are_gone(self) -> bool:
        """Whether one of them was closed, whatever has its number now."""
        return any(_identity(number) != self._file for number in self._numbers)


@functools.cache
def marks() -> Marks:
    """Return those of the process."""
    return Marks()


def _identity(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino

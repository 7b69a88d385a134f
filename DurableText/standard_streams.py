"""The standard streams of a program: all three are there, and its output may come to nothing.

A program may be started without some of them (cron, `2>&-`). The kernel gives the lowest free
number to whatever is opened next. Where number 2 is free, that is a log, a socket or a database,
and the next line that a native library writes to standard error lands in it. So what runs as a
program of its own prepares them before all else.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
from typing import Any

EXIT_FAILED = 1

_MODES = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def prepare() -> None:
    """Open to nowhere which of the file descriptors 0 to 2 are closed, for children as well.

    And let standard output be a pipe whose reader goes (`| head`): what nobody reads any more is
    dropped, and the program ends with the code that it ends with anyway. Where it cannot be written
    for another reason (a full disk behind `>`), that is told in a line and the program ends with 1.
    """
    for descriptor, (name, mode) in _MODES.items():
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == descriptor, "the kernel gives the lowest number that is free"
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:  # what Python made of a closed one
            _set(name, os.fdopen(descriptor, mode, errors="replace", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        given = sys.stdout
        output = io.BufferedWriter(_Output(given.fileno(), "wb", closefd=False))
        _set(
            "stdout",
            io.TextIOWrapper(
                output,
                given.encoding,
                given.errors,
                line_buffering=given.line_buffering,
                write_through=given.write_through,
            ),
        )
        atexit.register(_last_words)  # the first that is registered is the last that runs


def _last_words() -> None:
    """Write what is left; end with 1 if anything could not be written."""
    with contextlib.suppress(ValueError):  # it was closed
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output) and raw.failed:
        sys.stderr.flush()
        os._exit(EXIT_FAILED)


def reader_is_gone() -> bool:
    """Tell whether nobody sees standard output any more: what has no end may end."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Output) and raw.reader_is_gone


class _Output(io.FileIO):
    """Standard output, which goes to nowhere once its reader is gone or its disk is full."""

    reader_is_gone = False
    failed = False

    def write(self, data: Any, /) -> int:
        """Write; drop what nobody reads or what cannot be written."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self.reader_is_gone = True
            if not isinstance(error, BrokenPipeError):
                self.failed = True
                with contextlib.suppress(OSError):  # it may lie on the same disk
                    sys.stderr.write(f"the output cannot be written: {error.strerror}\n")
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def _set(name: str, stream: Any) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)

"""The standard streams of a process that was started without some of them (cron, `2>&-`).

The kernel gives the lowest free number to whatever is opened next. Where number 2 is free, that is
a log, a socket or a database, and the next line that a native library writes to standard error
lands in it. So what runs as a program of its own does this before all else.
"""

from __future__ import annotations

import os
import sys

_MODES = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def open_closed() -> None:
    """Open to nowhere which of the file descriptors 0 to 2 are closed, for children as well."""
    for descriptor, (name, mode) in _MODES.items():
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == descriptor, "the kernel gives the lowest number that is free"
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:  # what Python made of a closed one
            stream = os.fdopen(descriptor, mode, errors="replace", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

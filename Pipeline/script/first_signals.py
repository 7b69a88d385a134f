"""Signals that come while a script is still being imported. The scripts load this first of all.

And where signals are others, on Windows, there is no use in importing the rest.

Importing takes some tenths of a second. Until `Stop` takes over, Ctrl-C would end it in a
traceback from the middle of somebody's library, and SIGHUP would kill a server that shall only
look for a new checkpoint. So this imports next to nothing itself.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

# A closed terminal sends SIGHUP, too; it can only be told from a reload by what is gone since.
HAD_TERMINAL = sys.stderr is not None and sys.stderr.isatty()


def require_posix() -> None:
    """End with 2 where there are no such signals, nor the locks that all the rest is built on."""
    if os.name != "posix":
        sys.stderr.write("Linux or macOS is needed; on Windows use WSL 2\n")
        sys.exit(2)


def end_quietly() -> None:
    """End with 0 on SIGINT and SIGTERM: there is nothing yet that had to be finished."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def survive_hangup() -> None:
    """Go on at SIGHUP, unless the terminal was closed: what is being loaded is the newest."""
    signal.signal(signal.SIGHUP, _on_hangup)


def terminal_is_gone() -> bool:
    """Tell whether this process was started in a terminal that is closed now."""
    return HAD_TERMINAL and not sys.stderr.isatty()


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _on_hangup(_number: int, _frame: FrameType | None) -> None:
    if terminal_is_gone():
        os._exit(0)

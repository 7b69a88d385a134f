"""Signals that come while a program is still being imported. All programs load this first of all.

And where signals are others, on Windows, there is no use in importing the rest.

Importing takes some tenths of a second. Until `Stop` or `Interrupts` takes over, Ctrl-C would end
it in a traceback from the middle of somebody's library, and SIGHUP would kill a server that shall
only look for a new checkpoint. So this imports next to nothing itself.
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


def break_off_quietly() -> None:
    """Let Ctrl-C end a command as SIGTERM does: without a word, by the signal (130 in a shell).

    Not where it was started to be left alone by Ctrl-C (`nohup`, `&`).
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_run(package: str) -> bool:
    """Tell whether this process was started as `python -m package` and is importing it now.

    Its `__init__` comes before its `__main__`. While a module is looked for, Python sets the first
    of the arguments to "-m"; what it looks for stands before the others.
    """
    if sys.argv[:1] != ["-m"]:
        return False
    return sys.orig_argv[-len(sys.argv)] in (package, f"-m{package}")


def end_quietly() -> None:
    """End a script with 0 on SIGINT and SIGTERM: there is nothing yet that had to be finished."""
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

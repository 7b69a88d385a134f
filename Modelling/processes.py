"""Processes of this package's own, for what may end the process that does it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

CODE = """
import importlib, sys
sys.path[:] = {path!r}
importlib.import_module({module!r}).main(sys.argv[1:])
"""


def command_of(module: str, *arguments: str) -> list[str]:
    """Return the command that calls `main` of a module, found where this process finds it.

    Args:
        module: Its full name.
        arguments: That `main` is given.
    """
    path = [str(Path(each).absolute()) for each in sys.path]
    return [sys.executable, "-c", CODE.format(path=path, module=module), *arguments]


def end_of(exit_code: int) -> str:
    """Say how a process ended: by which signal, or with which code."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:  # of those for one's own use only two have a name
        return f"signal {-exit_code}"

"""Threads that a predictor of one's own begins: one that fails costs nobody else anything.

A thread of the script's own that fails ends the script, since whatever it was for would be missed
without a sign. What a predictor's was for, its answers show.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from Modelling.errors import shortened

logger = logging.getLogger(__name__)


def tell_failing(module: str) -> None:
    """Tell from now on where a thread fails in the code of a module, or of its package.

    Args:
        module: Its full name.
    """
    if not isinstance(threading.excepthook, _Hook):  # else of the load before
        threading.excepthook = _Hook(module.partition(".")[0])


class _Hook:
    def __init__(self, package: str) -> None:
        self._package = package
        self._others = threading.excepthook

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit or not _is_in(self._package, args.exc_traceback):
            self._others(args)
            return
        logger.error(
            "a thread of %s has failed, %s: %s",
            self._package,
            args.exc_type.__name__,
            shortened(args.exc_value or ""),
        )


def _is_in(package: str, traceback: TracebackType | None) -> bool:
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] == package:
            return True
        traceback = traceback.tb_next
    return False

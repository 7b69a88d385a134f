"""What a script relies on of its own process, kept whatever code of others does to it.

Frameworks are written for programs of which they are the main part. They install handlers of
signals: the script would not stop in order any more. They configure logging, which by default
switches off all loggers that are there: the script would say nothing any more. A change of the
working directory would move all files with relative names. Other standard streams in the place of
its own would take its last line with them when they are closed; and what is opened next after
somebody has closed the descriptors of those would be what its lines are written to. A timeout that
all new sockets begin with would end connections that are meant to wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from DurableText import standard_streams

# What the script has a handler for.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Surroundings:
    """How they are at one moment. What is made later, loggers of others too, is left alone."""

    def __init__(self) -> None:
        """Remember it; signals only in the main thread, as no other may set them."""
        standard_streams.set_apart()
        self._socket_timeout = socket.getdefaulttimeout()
        self._folder = Path.cwd()
        root = logging.getLogger()
        self._level, self._handlers = root.level, tuple(root.handlers)
        self._below = root.manager.disable
        self._loggers = tuple(
            each
            for each in tuple(root.manager.loggerDict.values())
            if isinstance(each, logging.Logger) and not each.disabled
        )
        self._hooks = sys.excepthook, threading.excepthook
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._signals = {each: signal.getsignal(each) for each in SIGNALS} if _in_main() else {}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if _in_main() else None

    def restore(self) -> None:
        """Make them what they were. Any thread may; signals are restored by the main one."""
        standard_streams.reopen()
        socket.setdefaulttimeout(self._socket_timeout)
        with contextlib.suppress(OSError):  # it may have been removed: that is no fault of the code
            os.chdir(self._folder)
        root = logging.getLogger()
        if root.level != self._level:
            root.setLevel(self._level)
        if tuple(root.handlers) != self._handlers:
            root.handlers[:] = self._handlers
        root.manager.disable = self._below
        root.disabled = False
        for each in self._loggers:
            each.disabled = False
        sys.excepthook, threading.excepthook = self._hooks
        sys.stdin, sys.stdout, sys.stderr = self._streams
        if not _in_main():
            return
        for number, handler in self._signals.items():
            if handler is not None:  # which Python did not install
                signal.signal(number, handler)
        if self._blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)


def _in_main() -> bool:
    return threading.current_thread() is threading.main_thread()

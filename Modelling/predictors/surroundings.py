"""What a script relies on of its own process, kept whatever code of others does to it.

Frameworks are written for programs of which they are the main part. They install handlers of
signals: the script would not stop in order any more. They configure logging, which by default
switches off all loggers that are there: the script would say nothing any more. A change of the
working directory would move all files with relative names. Other standard streams in the place of
its own would take its last line with them when they are closed; and what is opened next after
somebody has closed the descriptors of those would be what its lines are written to. A timeout that
all new sockets begin with would end connections that are meant to wait. With limits of the system's
that are lower no file could be written, and nothing said of it; warnings that are errors, or fewer
calls inside of each other, would end threads of the script's own; so would a stack of a few pages.

What is not put back ends the process, in one line: descriptors that were closed, since whatever is
opened next has their numbers, and would get what is written under them.
"""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from DurableText.program import standard_streams
from Modelling.predictors.descriptors import marks
from Modelling.predictors.log_settings import LogSettings

logger = logging.getLogger(__name__)

# What the script has a handler for, and what would end it, or hide the end of its processes, if it
# were handled otherwise.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)

# Of files that are open, of a file, of memory, of CPU time, of threads: lower than before they stop
# the script.
LIMITS = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_CPU,
    resource.RLIMIT_NPROC,
)

# Timers, and the signal of each: one that nobody handles ends the process.
TIMERS = (
    (signal.ITIMER_REAL, signal.SIGALRM),
    (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
    (signal.ITIMER_PROF, signal.SIGPROF),
)

# What all threads use, and code that makes them into something else (gevent, eventlet) replaces.
SHARED: tuple[tuple[ModuleType, str], ...] = (
    (time, "sleep"),
    (time, "time"),
    (time, "monotonic"),
    (socket, "socket"),
    (select, "select"),
)


# What is asked and set by functions, and must be as it was: of sockets, of threads that are begun
# later, of the collector, of numbers as native code reads them.
SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (threading.stack_size, threading.stack_size),
    (threading.gettrace, threading.settrace),
    (threading.getprofile, threading.setprofile),
    (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    (gc.get_threshold, lambda threshold: gc.set_threshold(*threshold)),
    (
        lambda: locale.setlocale(locale.LC_NUMERIC),
        lambda name: locale.setlocale(locale.LC_NUMERIC, name),
    ),
)


class Surroundings:
    """How they are at one moment. What is made later, loggers of others too, is left alone."""

    def __init__(self) -> None:
        """Remember it; signals only in the main thread, as no other may set them."""
        standard_streams.set_apart()
        self._marks = marks()
        self._limits = {each: resource.getrlimit(each)[0] for each in LIMITS}
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._recursion = sys.getrecursionlimit()
        self._switch_interval = sys.getswitchinterval()
        self._filters = tuple(warnings.filters)
        self._shared = [(module, name, getattr(module, name)) for module, name in SHARED]
        self._settings = [(ask, put, ask()) for ask, put in SETTINGS]
        self._path = tuple(sys.path)
        self._folder = Path.cwd()
        self._logs = LogSettings()
        self._hooks = sys.excepthook, threading.excepthook
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._signals = {each: signal.getsignal(each) for each in SIGNALS} if _in_main() else {}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if _in_main() else None

    @property
    def replaced(self) -> list[str]:
        """What of the modules that all threads use is another thing by now."""
        return [
            f"{module.__name__}.{name}"
            for module, name, before in self._shared
            if getattr(module, name, None) is not before
        ]

    def restore(self) -> None:
        """Make them what they were. Any thread may; signals are restored by the main one.

        Where that cannot be, the process ends.
        """
        files_are_gone = self._marks.are_gone
        if files_are_gone:
            standard_streams.set_back()
        else:
            standard_streams.reopen()
        limited = not self._restore_limits()
        self._restore_interpreter()
        self._logs.restore()
        _stop_timers()
        if files_are_gone:
            _end("has closed files of this process, as os.closerange does")
        if limited:
            _end("has lowered limits of this process for good, as resource.setrlimit does")
        if _in_main():
            self._restore_signals()

    def _restore_limits(self) -> bool:
        """Tell whether no limit is lower than it was."""
        for each, before in self._limits.items():
            soft, hard = resource.getrlimit(each)
            if not _is_lower(soft, before):
                continue
            try:
                resource.setrlimit(each, (before, before if _is_lower(hard, before) else hard))
            except (OSError, ValueError):
                return False
        return True

    def _restore_interpreter(self) -> None:
        for ask, put, before in self._settings:
            if ask() != before:
                put(before)
        os.umask(self._mask)
        with contextlib.suppress(OSError):  # it may have been removed: that is no fault of the code
            os.chdir(self._folder)
        for module, name, before in self._shared:
            if getattr(module, name, None) is not before:
                setattr(module, name, before)
        # Further folders of modules, more calls inside of each other, and other warnings that are
        # silent, may be wanted.
        if not set(self._path) <= set(sys.path):
            sys.path.extend(each for each in self._path if each not in sys.path)
        if sys.getrecursionlimit() < self._recursion:
            sys.setrecursionlimit(self._recursion)
        if sys.getswitchinterval() > self._switch_interval:
            sys.setswitchinterval(self._switch_interval)
        if any(each[0] == "error" and each not in self._filters for each in warnings.filters):
            warnings.filters[:] = self._filters  # type: ignore[index]
        sys.excepthook, threading.excepthook = self._hooks
        sys.stdin, sys.stdout, sys.stderr = self._streams

    def _restore_signals(self) -> None:
        for number, handler in self._signals.items():
            if handler is not None:  # which Python did not install
                signal.signal(number, handler)
        if self._blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)


def _stop_timers() -> None:
    """Stop those that would end the process where nobody handles their signal."""
    for timer, number in TIMERS:
        if signal.getitimer(timer)[0] and signal.getsignal(number) is signal.SIG_DFL:
            signal.setitimer(timer, 0)


def _end(what: str) -> None:
    """End the process at once: what is in flight comes again."""
    logger.critical("a predictor %s: the server ends, and is to be started anew", what)
    os._exit(standard_streams.EXIT_FAILED)


def _is_lower(limit: int, other: int) -> bool:
    return limit != resource.RLIM_INFINITY and (other == resource.RLIM_INFINITY or limit < other)


def _in_main() -> bool:
    return threading.current_thread() is threading.main_thread()

"""When a script shall end, who says so, and how long it may take: signals, idleness, exit codes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from DurableText.command_line import EXIT_FAILED
from DurableText.program.first_signals import terminal_is_gone

# How often a waiting script looks whether it shall stop.
POLL_SECONDS = 0.25
# What a script may take to end once it was asked to. Half a minute is what supervisors allow as a
# rule (systemd's own default is 90 s); closing the connections needs some of it.
GRACE_SECONDS = 20.0
# Some supervisors signal the process and then its group: those two are one request.
SAME_REQUEST_SECONDS = 0.2


class ScriptError(Exception):
    """Raised when a script cannot go on; its text is the one line that the user sees."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StoppedError(Exception):
    """Raised when the script was told to stop before it was ready: it ends with 0."""


class Stop:
    """Whether the script shall end, and who said so.

    Attributes:
        failed: it shall end because something failed.
    """

    def __init__(
        self,
        grace_seconds: float = GRACE_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
        end_at_once: Callable[[int], object] = os._exit,
    ) -> None:
        """Begin with nobody having asked.

        Args:
            grace_seconds: what the script may take to end once it was asked to.
            clock: tells the time.
            end_at_once: what a second signal does.
        """
        self.grace_seconds = grace_seconds
        self._clock = clock
        self._end_at_once = end_at_once
        self._event = threading.Event()
        self.failed = False
        self._requested_at = 0.0
        self._signalled_at: float | None = None

    @property
    def requested(self) -> bool:
        """True once the script shall end."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the script to end."""
        if not self.requested:
            self._requested_at = self._clock()
        self._event.set()

    def fail(self) -> None:
        """Ask the script to end, and to say that something failed."""
        self.failed = True
        self.request()

    @property
    def grace_left(self) -> float:
        """Seconds within which the script shall have ended; all of them while nobody asked."""
        if not self.requested:
            return self.grace_seconds
        return max(0.0, self._requested_at + self.grace_seconds - self._clock())

    def wait(self, seconds: float) -> bool:
        """Wait; True if the script shall end."""
        return self._event.wait(min(seconds, threading.TIMEOUT_MAX))

    def on_signals(self) -> None:
        """Stop on SIGINT and SIGTERM; on the second one end at once. SIGHUP: see `on_hangup`."""
        signal.signal(signal.SIGINT, self.on_signal)
        signal.signal(signal.SIGTERM, self.on_signal)
        signal.signal(signal.SIGHUP, self.on_hangup)
        os.register_at_fork(after_in_child=_leave_signals_in_child)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Ask the script to end; the second time, end at once."""
        now = self._clock()
        if self._signalled_at is None:
            self._signalled_at = now
            self.request()
        elif now - self._signalled_at > SAME_REQUEST_SECONDS:
            # Whatever was confirmed is durable; whatever was not comes again.
            self._end_at_once(EXIT_FAILED)

    def on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        """Ask the script to end where its terminal was closed; else it was another one's reload.

        `pkill -HUP -f model_server` means the one that has a model.
        """
        if terminal_is_gone():
            self.request()


def _leave_signals_in_child() -> None:
    """Let signals do to a forked child what they do to any process.

    Whoever forked it ends it by one, as `multiprocessing` does with the processes of a pool, and
    waits: a child that took it for a request to the script would go on for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class IdleClock:
    """Tells when nothing has come for long enough to end; never, without a limit."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._since = time.monotonic()

    def restart(self) -> None:
        """Something came, or nothing could come."""
        self._since = time.monotonic()

    @property
    def expired(self) -> bool:
        """True once nothing has come for the limit."""
        return self._limit is not None and time.monotonic() - self._since >= self._limit

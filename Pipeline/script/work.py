"""A script's work, and who waits for it: not for ever once the script shall end.

While the broker is away a publication waits, and nothing fails. A person or a supervisor who asks
the script to end meanwhile must not wait as long. But a thread that waits cannot be interrupted,
only left behind; and in native code it hears of no signal. So the work is done beside the thread
that hears of them, from its beginning to its end: a thread for each publication would cost two
wake-ups each, and twice an image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import TypeVar

from DurableText.program.beside import in_a_thread
from Pipeline.observability.waiting import Reason, Waiting
from Pipeline.stop import POLL_SECONDS, ScriptError, Stop

Result = TypeVar("Result")


class UnconfirmedError(ScriptError):
    """Raised when the script was told to end, and the broker has not confirmed in time."""


class Work:
    """What one thread does beside another, which may leave it behind."""

    def __init__(self, stop: Stop, waiting: Waiting) -> None:
        """Begin with nothing.

        Args:
            stop: tells whether the script shall end, and how much of its grace is left.
            waiting: told what is waited for.
        """
        self._stop = stop
        self._waiting = waiting
        self._confirming = False

    def do(self, action: Callable[[], Result]) -> Result:
        """Do it, and wait for its end, whatever signals come meanwhile.

        Returns:
            What `action` returned, or raises what it raised.

        Raises:
            UnconfirmedError: the grace is over, and it is `confirming`. It ends when the broker's
                handler is closed.
        """
        outcome = in_a_thread("work", action)
        while not wait((outcome,), POLL_SECONDS).done:
            if self._confirming and self._stop.requested and self._stop.grace_left <= 0:
                raise UnconfirmedError(
                    f"the broker has not answered within {self._stop.grace_seconds:g} seconds of "
                    "being asked to end: what it has not confirmed does not count as published, "
                    "and what was to be passed on stays where it is"
                )
        return outcome.result()

    @contextlib.contextmanager
    def confirming(self) -> Iterator[None]:
        """Say, in the thread that does it, that the broker's confirmation is waited for."""
        self._confirming = True
        try:
            with self._waiting.on(Reason.BROKER, "the broker has not confirmed what was sent"):
                yield
        finally:
            self._confirming = False

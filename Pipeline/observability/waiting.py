"""What a script waits for right now, and since when: whatever waits says so here.

From it come `serving_waiting{reason}`, the reason in `/readyz`, and what the watch says. The log is
the business of whoever waits: it knows what a person has to do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

# What goes through within this is no waiting: an answer of a broker takes its time.
NOTICE_SECONDS = 1.0
# After so long something is wrong, and the script is not ready.
STUCK_SECONDS = 10.0
# Models may be slow, and so may loading them be; what takes longer may never end.
SLOW_MODEL_SECONDS = 60.0
# Why a subscription is not ready.
NOT_ASSIGNED = "the broker is away, or has not assigned anything yet"


class Reason(StrEnum):
    """The labels of `serving_waiting`."""

    BROKER = "broker"  # it is away, or has not confirmed
    DEAD_LETTER = "dead_letter"  # it is refused, and what it was made of stays un-acked
    MODEL = "model"  # it has not answered, or is not loaded yet
    PREPARATION = "preparation"  # items are not yet what the model takes
    QUEUE_FULL = "queue_full"
    QUEUE_LOCKED = "queue_locked"
    QUEUE = "queue"  # the disk under it is full, as a rule, or its engine away
    DB = "db"  # the same
    IDS = "ids"  # the disk under `--ids`


@dataclass(frozen=True)
class Wait:
    """One thing that is waited for.

    Attributes:
        since: on the registry's clock.
        what: in words, for a person.
        usual: seconds within which it is no waiting.
    """

    since: float
    what: str
    usual: float

    @property
    def patience(self) -> float:
        """Seconds after which something is wrong."""
        return max(self.usual, STUCK_SECONDS)


class Waiting:
    """The registry of one script. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing; `clock` tells the time."""
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[Reason, Wait] = {}
        self._known: set[Reason] = set()

    def begin(self, reason: Reason, what: str, usual: float = NOTICE_SECONDS) -> None:
        """Say that something is waited for; said again it goes on, in the new words."""
        with self._lock:
            before = self._waits.get(reason)
            since = self._clock() if before is None else before.since
            self._waits[reason] = Wait(since, what, usual)

    def end(self, reason: Reason) -> None:
        """Say that it is waited for no more, if it was."""
        with self._lock:
            self._waits.pop(reason, None)

    @contextlib.contextmanager
    def on(self, reason: Reason, what: str, usual: float = NOTICE_SECONDS) -> Iterator[None]:
        """Say that something is waited for until the context is left."""
        self.begin(reason, what, usual)
        try:
            yield
        finally:
            self.end(reason)

    def reasons(self) -> dict[Reason, bool]:
        """Tell what is waited for; false for what was, so that its end can be seen."""
        now = self._clock()
        with self._lock:
            waits = dict(self._waits)
            noticed = {each for each, wait in waits.items() if now - wait.since >= wait.usual}
            self._known |= noticed
            return {reason: reason in noticed for reason in sorted(self._known)}

    def stuck(self) -> str | None:
        """Tell what has been waited for longer than it should take; None if nothing has."""
        now = self._clock()
        with self._lock:
            waits = sorted(self._waits.values(), key=lambda wait: wait.since)
        for wait in waits:
            if now - wait.since >= wait.patience:
                return f"waiting for {now - wait.since:.0f} s: {wait.what}"
        return None

"""Between the threads that pull and the application that fetches.

It holds what was pulled and not yet fetched, how much more is wanted, and what the pulls have
found out about the broker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.message import Delivery, Message


class Inbox:
    """A buffer that the pulls fill as far as the last fetch asked for, and no further."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._demanded = threading.Condition(self._lock)
        self._messages: deque[Message] = deque()
        self._wanted = 0  # what the last fetch asked for
        self._fetched_at = time.monotonic()
        self._answered_at = time.monotonic()
        self._away: BrokerUnavailableError | None = None
        self._failure: BrokerError | None = None
        self._closed = threading.Event()

    # ------------------------------------------------------------------ for the application

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """Take what is there, waiting up to `timeout` seconds for the first message.

        Raises:
            BrokerError: nothing is there, and this is why.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._fetched_at = time.monotonic()
            self._wanted = max_messages
            self._demanded.notify_all()
            while not self._messages:
                if self._failure is not None or self._away is not None:
                    raise self._failure or self._away  # type: ignore[misc]
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            taken: list[Message] = []
            size = 0
            while self._messages and len(taken) < max_messages and size < max_bytes:
                taken.append(self._messages.popleft())
                size += taken[-1]._delivery.size
            self._demanded.notify_all()
            return taken

    @property
    def unused_seconds(self) -> float:
        """Seconds since the last fetch."""
        return time.monotonic() - self._fetched_at

    def __len__(self) -> int:
        return len(self._messages)

    def deliveries(self) -> list[Delivery]:
        """Return the deliveries of all that is here."""
        with self._lock:
            return [message._delivery for message in self._messages]

    def clear(self) -> list[Delivery]:
        """Forget all that is here, and want no more until the next fetch."""
        with self._lock:
            deliveries = [message._delivery for message in self._messages]
            self._messages.clear()
            self._wanted = 0
            self._demanded.notify_all()
            return deliveries

    def close(self) -> None:
        """Want nothing more."""
        self._closed.set()
        with self._lock:
            self._demanded.notify_all()

    # ------------------------------------------------------------------ for the pulls

    @property
    def closed(self) -> bool:
        """True once nobody wants anything."""
        return self._closed.is_set()

    def wait_for_demand(self, *, always: bool) -> int:
        """Wait until less is here than is wanted; return what is wanted, 0 when closed.

        Args:
            always: something is wanted even though there is enough.
        """
        with self._lock:
            self._demanded.wait_for(
                lambda: self.closed or always or len(self._messages) < self._wanted
            )
            return 0 if self.closed else max(1, self._wanted)

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the close."""
        self._closed.wait(seconds)

    def put(self, messages: Sequence[Message]) -> None:
        """Add what was pulled."""
        with self._lock:
            self._messages.extend(messages)
            self._arrived.notify_all()

    # ------------------------------------------------------------------ how the broker is

    @property
    def ready(self) -> bool:
        """True while the broker answers."""
        return self._away is None and self._failure is None

    @property
    def silent_seconds(self) -> float:
        """Seconds since the broker answered anything."""
        return time.monotonic() - self._answered_at

    def note_answer(self) -> None:
        """The broker is there."""
        self._answered_at = time.monotonic()
        self._away = None

    def note_absence(self, error: BrokerUnavailableError) -> None:
        """The broker is away; it is waited for."""
        with self._lock:
            self._away = error
            self._arrived.notify_all()

    def fail(self, error: BrokerError) -> None:
        """Waiting will not help."""
        with self._lock:
            self._failure = self._failure or error
            self._arrived.notify_all()

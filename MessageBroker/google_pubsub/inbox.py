"""Between the threads that pull and the application that fetches.

It holds what was pulled and not yet fetched, how much more is wanted, and what the pulls have
found out about the broker.

It is bounded: what is here and what the application has un-acked together fill the limits of the
subscription. The pulls ask before they begin (`wait_for_demand`), ask for no more than there is
room for (`room`), and end what would go on by itself (`full`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.message import SETTLED, Delivery, DeliveryState, Message

# Reading ahead begins again when less than this share of the limits is taken: a consumer that works
# at its limits would otherwise open and end streams for single messages.
READ_AHEAD_SHARE = 0.5
# Nobody has asked the broker on behalf of a fetch that comes after a while without: an answer takes
# as long. Whoever looks in now and then, without waiting, would never find anything.
FIRST_ANSWER_SECONDS = 0.5


class Inbox:
    """A buffer that the pulls fill as far as the last fetch asked for, and the limits allow."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        """Begin empty; nothing is wanted before the first fetch.

        Args:
            max_messages: how many may be here and un-acked together.
            max_bytes: the same in bytes of data.
        """
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._demanded = threading.Condition(self._lock)
        self._messages: deque[Message] = deque()
        self._bytes = 0
        # What the application has, and some of it may be settled by now: see `_has_room`.
        self._fetched: list[Delivery] = []
        self._fetched_bytes = 0
        self._wanted = 0  # what the last fetch asked for
        self._fetched_at = time.monotonic()
        self._answered_at = time.monotonic()
        self._away: BrokerUnavailableError | None = None
        self._failure: BrokerError | None = None
        self._closed = threading.Event()

    # ------------------------------------------------------------------ for the application

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """Take what is there, waiting up to `timeout` seconds for the first message.

        The first fetch after a while waits for an answer of the broker's.

        Raises:
            BrokerError: nothing is there, and this is why.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self._wanted:
                deadline = max(deadline, time.monotonic() + FIRST_ANSWER_SECONDS)
            self._fetched_at = time.monotonic()
            self._wanted = max_messages
            self._demanded.notify_all()
            while not self._messages:
                reason = self._failure or self._away  # an answer may end the second just now
                if reason is not None:
                    raise reason
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            taken: list[Message] = []
            size = 0
            while self._messages and len(taken) < max_messages and size < max_bytes:
                taken.append(self._messages.popleft())
                size += taken[-1].delivery.size
            self._bytes -= size
            assert self._bytes >= 0, "what is taken was put in"
            self._fetched += [message.delivery for message in taken]
            self._fetched_bytes += size
            self._demanded.notify_all()
            return taken

    @property
    def unused_seconds(self) -> float:
        """Seconds since the last fetch."""
        return time.monotonic() - self._fetched_at

    def deliveries(self) -> list[Delivery]:
        """Return the deliveries of all that is here."""
        with self._lock:
            return [message.delivery for message in self._messages]

    def clear(self) -> list[Delivery]:
        """Forget all that is here, and want no more until the next fetch."""
        with self._lock:
            deliveries = [message.delivery for message in self._messages]
            self._messages.clear()
            self._bytes = 0
            self._wanted = 0
            self._demanded.notify_all()
            return deliveries

    def note_settled(self) -> None:
        """Something was acknowledged, or lost: there may be room again."""
        with self._lock:
            self._demanded.notify_all()

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
        """Wait until less is here than is wanted, and there is room for it.

        Args:
            always: something is wanted even though there is enough.

        Returns:
            How many messages are wanted, 0 when closed.
        """
        with self._lock:
            self._demanded.wait_for(lambda: self.closed or self._is_wanted(always))
            if self.closed:
                return 0
            if self._wanted > self._max_messages - self._held:
                self._forget_settled()
            return max(1, min(self._wanted, self._max_messages - self._held))

    def _is_wanted(self, always: bool) -> bool:
        if len(self._messages) < self._wanted:
            return self._has_room(1.0)
        return always and self._has_room(READ_AHEAD_SHARE)

    def _has_room(self, share: float) -> bool:
        """Tell whether less than this share of the limits is taken.

        Nobody tells the inbox which deliveries are settled: it looks, but only if that matters.
        """
        if self._is_below(share):
            return True
        self._forget_settled()
        return self._is_below(share)

    def _forget_settled(self) -> None:
        # Those whose dead letter waits have room of their own: the core sees to it.
        done = (*SETTLED, DeliveryState.MOVING)
        self._fetched = [each for each in self._fetched if each.state not in done]
        self._fetched_bytes = sum(each.size for each in self._fetched)

    def _is_below(self, share: float) -> bool:
        return (
            self._held < share * self._max_messages
            and self._bytes + self._fetched_bytes < share * self._max_bytes
        )

    @property
    def _held(self) -> int:
        return len(self._messages) + len(self._fetched)

    @property
    def full(self) -> bool:
        """True while what is here and un-acked fills the limits."""
        with self._lock:
            return not self._has_room(1.0)

    def room(self) -> tuple[int, int]:
        """Return how many messages and bytes the limits allow now, each at least 1."""
        with self._lock:
            self._forget_settled()
            taken = self._bytes + self._fetched_bytes
            return max(1, self._max_messages - self._held), max(1, self._max_bytes - taken)

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the close."""
        self._closed.wait(seconds)

    def put(self, messages: Sequence[Message]) -> None:
        """Add what was pulled."""
        with self._lock:
            self._messages.extend(messages)
            self._bytes += sum(message.delivery.size for message in messages)
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
        """Note that the broker is there."""
        self._answered_at = time.monotonic()
        self._away = None

    def note_absence(self, error: BrokerUnavailableError) -> None:
        """Note that the broker is away; it is waited for."""
        with self._lock:
            self._away = error
            self._arrived.notify_all()

    def fail(self, error: BrokerError) -> None:
        """Note why waiting will not help."""
        with self._lock:
            self._failure = self._failure or error
            self._arrived.notify_all()

"""The seam between the shared core and the handlers.

A handler supplies only what its broker makes different: how messages are sent (`BrokerCore`'s
hooks) and, for each subscription, a `Stream`. Checks, limits, nack, back-off, attempts, dead
letters, back-pressure and the life cycle are the core's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from MessageBroker.errors import BrokerError
from MessageBroker.message import Delivery, Message


class Publication:
    """A message on its way to the broker. The first call of `confirm` or `fail` counts."""

    __slots__ = ("_settled", "attributes", "data", "error", "key", "message_id", "topic")

    def __init__(
        self,
        topic: str,
        data: bytes,
        key: str | None,
        attributes: Mapping[str, str],
        settled: Callable[[Publication], None],
    ) -> None:
        self.topic = topic
        self.data = data
        self.key = key
        self.attributes = attributes
        self.message_id = ""
        self.error: BrokerError | None = None
        self._settled: Callable[[Publication], None] | None = settled

    def confirm(self, message_id: str) -> None:
        """The broker has the message durably, under this id."""
        settled, self._settled = self._settled, None
        if settled is not None:
            self.message_id = message_id
            settled(self)

    def fail(self, error: BrokerError) -> None:
        """The broker will never take the message; trying again cannot cure it."""
        settled, self._settled = self._settled, None
        if settled is not None:
            self.error = error
            settled(self)


class Stream(ABC):
    """What a handler supplies for one subscription.

    `fetch` is called by one thread at a time, the other methods by any thread, also during a
    fetch. After `close` nothing else is called.
    """

    renew_interval: float = 1.0
    """Seconds between two calls of `renew`."""

    on_lost: Callable[[Sequence[Delivery]], None]
    """Set by the core before the first fetch. To be called, from any thread and without a lock
    that the methods below take, as soon as the handler knows that deliveries are no longer this
    consumer's (lease expired, partition revoked). What is lost is redelivered by the broker as
    new deliveries."""

    @abstractmethod
    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """Fetch new messages, each with a new `Delivery`, as soon as there are any.

        Args:
            max_messages: at least 1.
            max_bytes: at least 1; the last message may exceed it.
            timeout: seconds; 0 returns what is there. The core never waits longer than a tenth
                of a second at a time, so that nacks and `close` from other threads are noticed.

        Raises:
            BrokerUnavailableError: the broker is away. The core waits and calls again.
            BrokerError: anything that waiting cannot cure; it goes to the application.
        """

    @abstractmethod
    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge. Returns how many were late: no longer this consumer's.

        Raises:
            BrokerUnavailableError: the broker is away. The core calls again with all of them.
        """

    @abstractmethod
    def renew(self, deliveries: Sequence[Delivery]) -> None:
        """Keep the leases of all that is un-acked; called every `renew_interval` seconds.

        Raises:
            BrokerUnavailableError: the broker is away. The core calls again at the next interval.
        """

    @abstractmethod
    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back deliveries while the stream goes on: they shall be delivered again.

        Called when `max_lease_seconds` are over, and for what was fetched while closing.

        Raises:
            BrokerUnavailableError: the broker is away. The core calls again at the next interval,
                or hands them to `close`.
        """

    @property
    @abstractmethod
    def ready(self) -> bool:
        """True while this consumer is assigned its share, where the broker assigns."""

    @abstractmethod
    def close(self, deliveries: Sequence[Delivery]) -> None:
        """Leave, and give back `deliveries`, so that others get them at once."""

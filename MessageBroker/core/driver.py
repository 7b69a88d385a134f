"""The seam between the shared core and the handlers.

A handler supplies only what its broker makes different: how messages are sent (`core.hooks`)
and, for each subscription, a `Stream`. Checks, limits, nack, back-off, attempts, dead letters,
back-pressure and the life cycle are the core's.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

from MessageBroker.broker_interface import OutgoingMessage
from MessageBroker.errors import BrokerError
from MessageBroker.message import Delivery, Message


class Batch:
    """Messages on their way to the broker together. Each is settled once: confirmed or failed.

    There is no object for each message, and no copy of what it holds: on the way to Kafka that
    would be the dearest part.

    Attributes:
        topic: where they go.
        messages: what goes there.
        errors: why some failed, by their number.
    """

    __slots__ = (
        "_ids",
        "_lock",
        "_on_settled",
        "_unsettled",
        "errors",
        "messages",
        "sizes",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        messages: Sequence[OutgoingMessage],
        sizes: Sequence[int],
        on_settled: Callable[[], None],
    ) -> None:
        """Begin with all of them on their way.

        Args:
            topic: where the messages go.
            messages: at least one.
            sizes: the bytes of each: data, key and attributes.
            on_settled: called once, from any thread, when all are confirmed or failed.
        """
        self.topic = topic
        self.messages = messages
        self.sizes = sizes
        self.errors: dict[int, BrokerError] = {}
        self._ids: list[str | None] = [None] * len(messages)
        self._on_settled = on_settled
        self._unsettled = len(messages)
        self._lock = threading.Lock()  # a close fails what an answer may confirm just then

    @property
    def ids(self) -> list[str]:
        """The ids of all messages; "" for those that have none."""
        return [each or "" for each in self._ids]

    def publications(self) -> Iterator[Publication]:
        """Give each message a handle of its own, for handlers that put them into groups."""
        for number, message in enumerate(self.messages):
            yield Publication(self, number, message)

    def confirm(self, number: int, message_id: str) -> None:
        """Note that the broker has this message durably, under this id."""
        self._settle(number, message_id, None)

    def confirm_all(self, numbers: Sequence[int], message_ids: Sequence[str]) -> None:
        """Note that the broker has these messages durably, under these ids."""
        before = after = 0
        with self._lock:
            before = self._unsettled
            for number, message_id in zip(numbers, message_ids, strict=True):
                if self._ids[number] is None:
                    self._ids[number] = message_id
                    self._unsettled -= 1
            after = self._unsettled
        assert after >= 0, "each is settled once"
        if before and not after:
            self._on_settled()

    def fail(self, number: int, error: BrokerError) -> None:
        """Note that the broker will never take this message; trying again cannot cure it."""
        self._settle(number, "", error)

    def _settle(self, number: int, message_id: str, error: BrokerError | None) -> None:
        with self._lock:
            if self._ids[number] is not None:
                return
            assert self._unsettled > 0, "each is settled once"
            self._ids[number] = message_id
            if error is not None:
                self.errors[number] = error
            self._unsettled -= 1
            is_last = not self._unsettled
        if is_last:
            self._on_settled()

    def fail_rest(self, error: BrokerError, start: int = 0) -> None:
        """Fail all from `start` on that are not settled."""
        for number in range(start, len(self._ids)):
            self.fail(number, error)


class AwaitedBatch(Batch):
    """A batch whose publisher waits.

    Attributes:
        settled: set when all are confirmed or failed.
    """

    __slots__ = ("settled",)

    def __init__(
        self, topic: str, messages: Sequence[OutgoingMessage], sizes: Sequence[int]
    ) -> None:
        self.settled = threading.Event()
        super().__init__(topic, messages, sizes, self.settled.set)


# What each message and each attribute adds to a request, generously.
OVERHEAD_BYTES = 64


class Publication:
    """One message of a batch."""

    __slots__ = ("_batch", "_number", "attributes", "data", "key", "size", "topic")

    def __init__(self, batch: Batch, number: int, message: OutgoingMessage) -> None:
        self._batch = batch
        self._number = number
        self.topic = batch.topic
        self.data = message.data
        self.key = message.key or None
        self.attributes: Mapping[str, str] = message.attributes or {}
        # Bytes on the wire, or some more.
        self.size = batch.sizes[number] + OVERHEAD_BYTES * (1 + len(self.attributes))

    def confirm(self, message_id: str) -> None:
        """See `Batch.confirm`."""
        self._batch.confirm(self._number, message_id)

    def fail(self, error: BrokerError) -> None:
        """See `Batch.fail`."""
        self._batch.fail(self._number, error)


def confirm_all(publications: Sequence[Publication], message_ids: Sequence[str]) -> None:
    """Confirm each; those of one batch together: a lock and two calls for each cost 0.4 µs."""
    batches = {each._batch for each in publications}
    if len(batches) == 1:
        batches.pop().confirm_all([each._number for each in publications], message_ids)
        return
    for publication, message_id in zip(publications, message_ids, strict=True):
        publication.confirm(message_id)


class Stream(ABC):
    """What a handler supplies for one subscription.

    `fetch` is called by one thread at a time, the other methods by any thread, also during a
    fetch. After `close` nothing else is called.
    """

    renew_interval: float = 1.0
    """Seconds between two calls of `renew`."""

    on_unread: Callable[[Message, str], None]
    """Set by the core before the first fetch. To be called, from `fetch`, with each message that it
    is about to return and whose body can never be read, and with the reason. The core moves it to
    the dead-letter topic."""

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

    def place_of(self, message: Message) -> str:
        """Name the place where a message stands, for a letter that does not hold its body."""
        return f"{message.topic}/{message.id}"

    def way_back(self, message: Message) -> str:  # noqa: ARG002
        """Say how to get a message again that was acknowledged; "" where its place says so."""
        return ""

    @property
    def at_end(self) -> bool:
        """True if all that stood in the topic was handed out to this consumer, by what it knows."""
        return False

    @property
    @abstractmethod
    def ready(self) -> bool:
        """True while this consumer is assigned its share, where the broker assigns, and can look.

        While it is not, that nothing comes does not mean that nothing is there.
        """

    @abstractmethod
    def close(self, deliveries: Sequence[Delivery]) -> None:
        """Leave, and give back `deliveries`, so that others get them at once."""

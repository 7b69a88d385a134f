"""The message as an application sees it, and the delivery that stands behind it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class DeliveryState(enum.Enum):
    """Where a delivery stands between the broker and its acknowledgement."""

    OUT = "out"  # in the hands of the application, for the first time
    AGAIN = "again"  # in its hands again, after a nack: later messages of its key wait for it
    HELD = "held"  # nacked, or waiting behind a nacked message of the same key
    MOVING = "moving"  # on its way to the dead-letter topic
    DONE = "done"  # acknowledged or dead-lettered
    LOST = "lost"  # the lease or the partition is gone: the broker delivers it again


# The states in which the application has the message.
IN_HAND = (DeliveryState.OUT, DeliveryState.AGAIN)
# The states in which a delivery stays.
SETTLED = (DeliveryState.DONE, DeliveryState.LOST)


class Delivery:
    """What one delivery adds to a message: the handler's handle and the core's bookkeeping.

    It does not refer to its message: the message refers to it, and a cycle would leave every
    payload to the garbage collector.

    Attributes:
        handle: whatever the handler needs to acknowledge; only it looks inside.
        size: bytes of data, counted against `max_outstanding_bytes`.
        state: the core's, and LOST also the handler's.
        sequence: order of arrival in its subscription. Set by the core when it hands the message
            out for the first time, and so is the next.
        deadline: monotonic time at which `max_lease_seconds` are over.
    """

    __slots__ = ("deadline", "handle", "sequence", "size", "state")

    sequence: int
    deadline: float

    def __init__(self, handle: Any, size: int) -> None:
        """Begin in the hands of the application; see the class for the arguments."""
        self.handle = handle
        self.size = size
        self.state = DeliveryState.OUT


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it was received. It never changes.

    Attributes:
        id: the broker's id of the message. It never repeats, not even after the topic was
            deleted and made again. Local: UUIDv7. Kafka: `<partition>-<offset>-<timestamp in
            ms>`. Pub/Sub: its own.
        data: the body; `b""` where there is none.
        attributes: names to values.
        key: messages of one key arrive in the order in which they were published. None: no order.
        topic: the topic from which the message was received.
        publish_time: when the broker took it, UTC.
        delivery_attempt: 1 at first; one more for each nack of this message in this process.
        delivery: the handler's, by which the message is settled; not for applications.
    """

    id: str
    data: bytes
    attributes: dict[str, str]
    key: str | None
    topic: str
    publish_time: datetime
    delivery_attempt: int = 1
    delivery: Delivery = field(
        default_factory=lambda: Delivery(None, 0), repr=False, compare=False, kw_only=True
    )

    def __repr__(self) -> str:
        """Leave out the body: it may be megabytes."""
        return (
            f"Message(id={self.id!r}, topic={self.topic!r}, key={self.key!r}, "
            f"{len(self.data)} bytes, {len(self.attributes)} attributes, "
            f"delivery_attempt={self.delivery_attempt})"
        )


class _Draft:
    """A message in the making: the fields of a `Message`, before they are frozen."""

    __slots__ = tuple(Message.__slots__)

    def __init__(
        self,
        message_id: str,
        data: bytes,
        attributes: dict[str, str],
        key: str | None,
        topic: str,
        publish_time: datetime,
        delivery: Delivery,
    ) -> None:
        self.id = message_id
        self.data = data
        self.attributes = attributes
        self.key = key
        self.topic = topic
        self.publish_time = publish_time
        self.delivery_attempt = 1
        self.delivery = delivery
        self.__class__ = Message  # type: ignore[assignment]


# Makes a message that was just received; see `Message` for the arguments. A frozen class sets each
# field by a call: 0.7 us a message, and 0.25 in this way. At 30,000 images a second, received twice
# each, that is 3 % of a core.
received: Callable[[str, bytes, dict[str, str], str | None, str, datetime, Delivery], Message]
received = _Draft  # type: ignore[assignment]

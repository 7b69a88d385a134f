"""The message as an application sees it, and the delivery that stands behind it."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from MessageBroker.core.redelivery import Lane


# Made once for this project: the namespace of the UUIDs that `message_uuid` derives.
_NAMESPACE = uuid.UUID("6f1d2c0e-5b7a-5d0c-9d53-2b6b3c8f4a11")


def message_uuid(broker: str, topic: str, message_id: str) -> str:
    """Derive an id for a message that carries none: the same each time it is delivered.

    Source: UUIDv5, RFC 9562 section 5.5.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{broker}/{topic}/{message_id}"))


class DeliveryState(enum.Enum):
    """Where a delivery stands between the broker and its acknowledgement."""

    OUT = "out"  # in the hands of the application
    HELD = "held"  # nacked, or waiting behind a nacked message of the same key
    MOVING = "moving"  # on its way to the dead-letter topic
    DONE = "done"  # acknowledged or dead-lettered
    LOST = "lost"  # the lease or the partition is gone: the broker delivers it again


SETTLED = (DeliveryState.DONE, DeliveryState.LOST)
"""The states in which a delivery stays."""


class Delivery:
    """What one delivery adds to a message: the handler's handle and the core's bookkeeping.

    It does not refer to its message: the message refers to it, and a cycle would leave every
    payload to the garbage collector.
    """

    __slots__ = ("deadline", "handle", "lane", "sequence", "size", "state")

    # Set by the handler; there is no `__init__`, as a call for each would cost more than all else.
    handle: Any  # whatever it needs to acknowledge; only it looks inside
    size: int  # bytes of data, counted against max_outstanding_bytes
    state: DeliveryState  # OUT
    lane: Lane | None  # None

    # Set by the core when it hands the message out for the first time.
    sequence: int  # order of arrival in its subscription
    deadline: float  # monotonic time at which max_lease_seconds are over


def new_delivery(handle: Any, size: int) -> Delivery:
    """Make a delivery of `size` bytes; `handle` is whatever the handler needs to acknowledge."""
    delivery = Delivery()
    delivery.handle = handle
    delivery.size = size
    delivery.state = DeliveryState.OUT
    delivery.lane = None
    return delivery


_LEFT_TO_DELIVERIES = ("id", "publish_time")


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
    """

    id: str
    data: bytes
    attributes: dict[str, str]
    key: str | None
    topic: str
    publish_time: datetime
    delivery_attempt: int = 1
    _delivery: Delivery = field(
        default_factory=lambda: new_delivery(None, 0), repr=False, compare=False, kw_only=True
    )

    if not TYPE_CHECKING:  # or any name would pass for a field

        def __getattr__(self, name: str) -> Any:
            """Ask the delivery for what the handler left out, at the first use.

            Many applications never look at the ids and times of their messages.
            """
            if name not in _LEFT_TO_DELIVERIES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = getattr(self._delivery, name)
            object.__setattr__(self, name, value)
            return value

    def __repr__(self) -> str:
        """Leave out the body: it may be megabytes."""
        return (
            f"Message(id={self.id!r}, topic={self.topic!r}, key={self.key!r}, "
            f"{len(self.data)} bytes, {len(self.attributes)} attributes, "
            f"delivery_attempt={self.delivery_attempt})"
        )


class MessageDraft:
    """A message while it is being made, for handlers to which every tenth of a µs counts.

    The constructor of a frozen class sets each field by a call, and takes four times as long as to
    set the fields of this class of the same layout, and then its class: `__class__ = Message`.
    """

    __slots__ = tuple(each.name for each in fields(Message))

    id: str
    data: bytes
    attributes: dict[str, str]
    key: str | None
    topic: str
    publish_time: datetime
    delivery_attempt: int
    _delivery: Delivery

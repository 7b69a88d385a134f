"""The message as an application sees it, and the delivery that stands behind it."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from MessageBroker.redelivery import Lane


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


class Delivery:
    """What one delivery adds to a message: the handler's handle and the core's bookkeeping.

    It does not refer to its message: the message refers to it, and a cycle would leave every
    payload to the garbage collector.
    """

    __slots__ = ("deadline", "handle", "lane", "sequence", "size", "state")

    # Set by the core when it hands the message out for the first time.
    sequence: int  # order of arrival in its subscription
    deadline: float  # monotonic time at which max_lease_seconds are over

    def __init__(self, handle: Any, size: int) -> None:
        self.handle = handle  # whatever the handler needs to acknowledge; only it looks inside
        self.size = size  # bytes of data, counted against max_outstanding_bytes
        self.state = DeliveryState.OUT
        self.lane: Lane | None = None


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
    """A message while it is being made."""

    __slots__ = tuple(each.name for each in fields(Message))

    id: str
    data: bytes
    attributes: dict[str, str]
    key: str | None
    topic: str
    publish_time: datetime
    delivery_attempt: int
    _delivery: Delivery


def received_messages(
    topic: str,
    ids: Iterable[str],
    data: Iterable[bytes],
    attributes: Iterable[dict[str, str]],
    keys: Iterable[str | None],
    publish_times: Iterable[datetime],
    deliveries: Iterable[Delivery],
) -> list[Message]:
    """Make messages at their first delivery, from columns of equal length.

    Making them is the dearest step of receiving small messages, and the constructor of a frozen
    class takes four times as long: it sets each field by a call. So the fields of a class of the
    same layout are set, and then the class.
    """
    drafts = []
    columns = zip(ids, data, attributes, keys, publish_times, deliveries, strict=True)
    for message_id, body, names, key, publish_time, delivery in columns:
        draft = _Draft()
        draft.id = message_id
        draft.data = body
        draft.attributes = names
        draft.key = key
        draft.topic = topic
        draft.publish_time = publish_time
        draft.delivery_attempt = 1
        draft._delivery = delivery
        draft.__class__ = Message  # type: ignore[assignment]
        drafts.append(draft)
    return cast("list[Message]", drafts)

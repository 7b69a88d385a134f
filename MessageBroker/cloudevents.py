"""CloudEvents on a message: the names of its attributes, and the id by which an event is known.

In binary mode an event's attributes are the message's, each with the prefix of its broker's
protocol binding. Either binding is understood everywhere: a message may have come from another
broker.

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, and the bindings
`kafka-protocol-binding.md` and `google-cloud-pubsub-protocol-binding.md`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from MessageBroker.limits import MAX_ATTRIBUTE_VALUE_BYTES

# The embedded broker writes as Kafka does.
KAFKA_PREFIX = "ce_"
PUBSUB_PREFIX = "ce-"

# An id becomes an attribute again, of the result.
MAX_ID_BYTES = MAX_ATTRIBUTE_VALUE_BYTES
_SEPARATOR = "#"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Made once for this project: the namespace of the UUIDs that `message_uuid` derives.
_NAMESPACE = uuid.UUID("6f1d2c0e-5b7a-5d0c-9d53-2b6b3c8f4a11")


class _Spellings(dict[str, tuple[str, str]]):
    """Names of attributes, as either binding writes them. Programs ask for the same few."""

    def __missing__(self, name: str) -> tuple[str, str]:
        self[name] = found = KAFKA_PREFIX + name, PUBSUB_PREFIX + name
        return found


_spellings = _Spellings()


def attribute(attributes: Mapping[str, str], name: str) -> str | None:
    """Return the CloudEvents attribute `name`, in whichever binding; None if missing or empty."""
    kafka, pubsub = _spellings[name]
    return attributes.get(kafka) or attributes.get(pubsub) or None


def plain_name(name: str) -> str:
    """Return an attribute's name without the prefix of its broker's binding."""
    return name.removeprefix(KAFKA_PREFIX).removeprefix(PUBSUB_PREFIX)


def known_id(attributes: Mapping[str, str]) -> str | None:
    """Return the id by which an event is known in all that follows from it; None without an id.

    That is its own if it is a UUID, in small letters; else one made of source and id, as an id is
    unique within its source only: see `qualified_id`.
    """
    event_id = attribute(attributes, "id")
    if event_id is None:
        return None
    if _UUID.fullmatch(event_id):
        return event_id.lower()
    return qualified_id(attribute(attributes, "source") or "", event_id)


def qualified_id(source: str, event_id: str) -> str:
    """Make one id of source and id; two events have the same only if they agree in both.

    `<source>#<id>`, which is a URI reference as the source is, where neither holds a `#`. Else the
    source's length tells where it ends: `#<characters of source>#<source>#<id>`. What is longer
    than `MAX_ID_BYTES` becomes a UUIDv5 of it.
    """
    if _SEPARATOR in source or _SEPARATOR in event_id:
        source = f"{_SEPARATOR}{len(source)}{_SEPARATOR}{source}"
    qualified = f"{source}{_SEPARATOR}{event_id}"
    if len(qualified.encode()) > MAX_ID_BYTES:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, qualified))
    return qualified


def message_uuid(broker: str, topic: str, message_id: str) -> str:
    """Derive an id for a message that carries none: the same each time it is delivered.

    Source: UUIDv5, RFC 9562 section 5.5.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{broker}/{topic}/{message_id}"))

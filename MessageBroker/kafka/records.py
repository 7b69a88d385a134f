"""Kafka records as messages, and back.

Programs that never heard of this project write to the topics too: their headers may be None,
repeated, or bytes that are no text, and their values may be None.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol, cast
from urllib.parse import quote_from_bytes

from confluent_kafka import Consumer, KafkaError

Headers = list[tuple[str, "bytes | None"]] | None


class KafkaRecord(Protocol):
    """What the client gives: a record, or an error in the place of one.

    The client's own type leaves open whether it has a place, which all that were fetched or
    confirmed have.
    """

    def __len__(self) -> int:
        """Count the bytes of the value."""

    def partition(self) -> int:
        """Return the partition's number."""

    def offset(self) -> int:
        """Return its offset; of an error, the one that it is about.

        Of one that was published it is None where the client was not told: see `Handover`.
        """

    def key(self) -> bytes | None:
        """Return the key."""

    def value(self) -> bytes | None:
        """Return the body."""

    def timestamp(self) -> tuple[int, int]:
        """Return which kind of time it has, and the time (ms since 1970)."""

    def error(self) -> KafkaError | None:
        """Return what came in its place."""


def polled(client: Consumer, seconds: float) -> KafkaRecord | None:
    """Wait for what comes next; see `KafkaRecord`."""
    return cast("KafkaRecord | None", client.poll(seconds))


def consumed(client: Consumer, limit: int) -> list[KafkaRecord]:
    """Take what is there already, without waiting; see `KafkaRecord`."""
    return cast("list[KafkaRecord]", client.consume(limit, 0))


# In place of headers of which a name cannot be read: names are bytes for other languages' clients.
UNREADABLE: Headers = [("unreadable-headers", b"true")]

# 9999-12-31, the last day of `datetime` (ms); foreign producers may write anything.
_LAST_TIMESTAMP = 253_402_214_400_000


def attributes_of(headers: Headers) -> dict[str, str]:
    """Make attributes of a record's headers: the last of a name wins, and None is ""."""
    return {name: text_of(value or b"") for name, value in headers or ()}


def headers_of(attributes: Mapping[str, str]) -> dict[str, str] | dict[str, bytes]:
    """Make a record's headers of attributes.

    The client takes a dict only, takes names of other classes for what `str` makes of them (an
    Enum's is another), and reads text up to its first NUL.
    """
    if attributes.__class__ is dict:  # nearly all: a loop without a call, it runs for every message
        for name, value in attributes.items():
            if name.__class__ is not str or "\0" in value:
                break
        else:
            return attributes
    return {str.__str__(name): value.encode() for name, value in attributes.items()}


def text_of(value: bytes) -> str:
    """Decode UTF-8; percent-encode bytes that are not."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return quote_from_bytes(value, safe="")


def key_of(key: bytes | None) -> str | None:
    """Make a message's key of a record's: an empty one is none."""
    return text_of(key) if key else None


def time_of(timestamp_ms: int) -> datetime:
    """Make a time of a record's timestamp; 1970 where it has none."""
    if not 0 <= timestamp_ms <= _LAST_TIMESTAMP:
        timestamp_ms = 0 if timestamp_ms < 0 else _LAST_TIMESTAMP
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def id_of(partition: int, offset: int, timestamp_ms: int) -> str:
    """Make a message's id of a record's place, and of its time: the topic may be made anew."""
    return f"{partition}-{offset}-{timestamp_ms}"


def place_of(message_id: str) -> tuple[int, int]:
    """Return the partition and the offset that the id of a message names."""
    partition, offset, _ = message_id.split("-", 2)
    return int(partition), int(offset)

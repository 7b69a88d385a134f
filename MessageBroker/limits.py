"""The limits of names and sizes: those that every broker keeps, checked before anything is sent.

Pub/Sub sets most of them (https://cloud.google.com/pubsub/quotas); the emulator enforces few, and
Kafka others. A message that one broker takes and another refuses would tie a team to the first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from MessageBroker.broker_interface import (
    DEAD_LETTER_SUFFIX,
    SUBSCRIPTION_SUFFIX,
    OutgoingMessage,
    is_dead_letter_topic,
)
from MessageBroker.errors import ConfigurationError, MessageTooLargeError, PublishError

# Pub/Sub takes 10 MB a request; 7 MiB leave room for its framing and for dead-letter attributes.
MAX_MESSAGE_BYTES = 7 * 1024 * 1024
MAX_KEY_BYTES = 1024
# Pub/Sub takes 100; a dead letter adds six.
MAX_ATTRIBUTES = 90
MAX_ATTRIBUTE_NAME_BYTES = 256
MAX_ATTRIBUTE_VALUE_BYTES = 1024

# Kafka takes 249 characters, Pub/Sub 255: what is left is for "-dead-letter" and "-sub", which do
# not count.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{2,229}")
_RESERVED_PREFIX = "goog"
# Of attributes that a handler adds on the way and takes off again.
_RESERVED_NAMES = (_RESERVED_PREFIX, "messagebroker-")

# Programs use the same few names again and again; one that makes them up shall cost no memory.
MAX_PASSED_NAMES = 1000
_passed_names: set[str] = set()


def check_name(name: str, what: str) -> None:
    """Check the name of a topic or a subscription.

    Args:
        name: the name.
        what: `topic` or `subscription`, for the error.

    Raises:
        TypeError: it is not a string.
        ConfigurationError: not every broker would take the name.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {what} name must be a string, not {type(name).__name__}")
    counted = name.removesuffix(SUBSCRIPTION_SUFFIX) if what == "subscription" else name
    if not _NAME.fullmatch(counted.removesuffix(DEAD_LETTER_SUFFIX)):
        raise ConfigurationError(
            f"{what} name {name!r} is not one that every broker takes: use 3 to 230 letters, "
            "digits, '.', '_' and '-', beginning with a letter"
        )
    if name.startswith(_RESERVED_PREFIX):
        raise ConfigurationError(
            f"{what} name {name!r} begins with {_RESERVED_PREFIX!r}, which Google Cloud Pub/Sub "
            "keeps for itself: choose another"
        )


def check_publishable(topic: str) -> None:
    """Check that a user may publish to `topic`.

    Raises:
        ConfigurationError: the name is bad, or is that of a dead-letter topic.
    """
    check_name(topic, "topic")
    if is_dead_letter_topic(topic):
        raise ConfigurationError(
            f"{topic!r} is a dead-letter topic: only dead letters go there. Publish to another "
            "topic, or replay with `python -m MessageBroker dead-letters replay`"
        )


def check_message(data: bytes, key: str | None, attributes: Mapping[str, str]) -> int:
    """Check the sizes of a message and the names of its attributes.

    Returns:
        The bytes of the message: data, key and attributes.

    Raises:
        TypeError: the data are not bytes, the attributes no mapping, or one of them or the key is
            not a string.
        MessageTooLargeError: the message, its key, or an attribute is over a limit.
        PublishError: text that cannot be encoded, or a name that a broker keeps for itself.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"data must be bytes, not {type(data).__name__}")
    if attributes.__class__ is not dict and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping, not {type(attributes).__name__}")
    # This runs for every message. Nearly every key passes without a call.
    size = len(data)
    if key is not None:
        if key.__class__ is str and len(key) <= MAX_KEY_BYTES and key.isascii():
            size += len(key)
        else:
            size += _check_key(key)
    if len(attributes) > MAX_ATTRIBUTES:
        raise MessageTooLargeError(
            f"{len(attributes)} attributes are more than the {MAX_ATTRIBUTES} that every broker "
            "takes: put some into the body"
        )
    size += _check_attributes(attributes)
    if size > MAX_MESSAGE_BYTES:
        _check_size("the message (data, key and attributes)", size, MAX_MESSAGE_BYTES)
    return size


def size_of(message: OutgoingMessage) -> int:
    """Return the bytes of a message, whatever its limits: data, key and attributes."""
    attributes = message.attributes or {}
    texts = (message.key or "", *attributes, *attributes.values())
    return len(message.data) + sum(len(text.encode("utf-8", "replace")) for text in texts)


def cut(text: str, limit: int = MAX_ATTRIBUTE_VALUE_BYTES) -> str:
    """Shorten `text` to `limit` UTF-8 bytes, at a character, marking the cut."""
    if len(text) <= limit and text.isascii():  # nearly always
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode("utf-8", "ignore") + "…"


def _check_attributes(attributes: Mapping[str, str]) -> int:
    """Check all together, as one text; one by one only where that tells too little."""
    if _passed_names.issuperset(attributes):
        try:
            values = "".join(attributes.values())
        except TypeError:  # one of them is no text: which one is told below
            values = ""
        if values.isascii() and 0 < len(values) <= MAX_ATTRIBUTE_VALUE_BYTES:
            return len("".join(attributes)) + len(values)
    return sum(itertools.starmap(_check_attribute, attributes.items()))


def _check_key(key: str) -> int:
    length = _utf8_length(key, "the key")
    _check_size("the key", length, MAX_KEY_BYTES)
    return length


def _check_attribute(name: str, value: str) -> int:
    name_bytes = _utf8_length(name, "an attribute's name")
    if name_bytes == 0 or name.startswith(_RESERVED_NAMES):
        raise PublishError(
            f"attribute name {name!r} is empty or begins with {_RESERVED_NAMES[0]!r}, which Google "
            f"Cloud Pub/Sub keeps for itself, or with {_RESERVED_NAMES[1]!r}, which this package "
            "does: choose another"
        )
    if "\x00" in name:  # librdkafka's header names are C strings
        raise PublishError(f"attribute name {name!r} holds a NUL character: leave it out")
    value_bytes = _utf8_length(value, f"attribute {name!r}")
    _check_size(f"the attribute name {name[:40]!r}", name_bytes, MAX_ATTRIBUTE_NAME_BYTES)
    _check_size(f"attribute {name!r}", value_bytes, MAX_ATTRIBUTE_VALUE_BYTES)
    if name.isascii() and len(_passed_names) < MAX_PASSED_NAMES:
        _passed_names.add(name)
    return name_bytes + value_bytes


def _utf8_length(text: str, what: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a string, not {type(text).__name__}")
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise PublishError(
            f"{what} cannot be encoded as UTF-8 ({error.reason}): percent-encode it first"
        ) from error


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise MessageTooLargeError(
            f"{what} has {size:,} bytes, {limit:,} are the most that every broker takes"
        )

"""What a dead letter says of itself, in attributes beside the original ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from MessageBroker.limits import (
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTES,
    MAX_KEY_BYTES,
    cut,
)

REASON = "dead_letter_reason"
ERROR = "dead_letter_error"
ATTEMPTS = "dead_letter_attempts"
SOURCE_TOPIC = "dead_letter_source_topic"
MESSAGE_ID = "dead_letter_message_id"
TIME = "dead_letter_time"
# Of a letter without the body, see `without_body`.
BODY = "dead_letter_body"
BYTES = "dead_letter_bytes"
SHA256 = "dead_letter_sha256"
PLACE = "dead_letter_place"
OF_EVERY_LETTER = frozenset((REASON, ERROR, ATTEMPTS, SOURCE_TOPIC, MESSAGE_ID, TIME))
ALL = OF_EVERY_LETTER | {BODY, BYTES, SHA256, PLACE}
# The value of BODY where there is none.
ABSENT = "absent"

# What names an image goes on in a letter that has no room for all attributes.
_CLOUDEVENTS = ("ce_", "ce-")


def dead_letter_attributes(
    original: Mapping[str, str],
    *,
    topic: str,
    message_id: str,
    attempts: int,
    reason: str,
    error: str,
) -> dict[str, str]:
    """Add to a message's attributes why, when and from where it became a dead letter."""
    return {
        # One that names a place or a missing body of its own is no letter yet.
        **{name: value for name, value in original.items() if name not in ALL},
        REASON: cut(reason),
        ERROR: cut(error),
        ATTEMPTS: str(attempts),
        SOURCE_TOPIC: topic,
        MESSAGE_ID: message_id,
        TIME: datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def without_body(
    attributes: Mapping[str, str], place: str, body: bytes | None, *, bare: bool = False
) -> dict[str, str]:
    """Make a letter's attributes fit every topic, and say in them where its body stands.

    Args:
        attributes: of `dead_letter_attributes`.
        place: where the original stands.
        body: what is left out; None if it was never read.
        bare: leave out all that the message had itself, too.
    """
    fitting: dict[str, str] = {}
    if not bare:
        own = [name for name in attributes if name not in ALL]
        own.sort(key=lambda name: not name.startswith(_CLOUDEVENTS))
        for name in own:
            if len(name.encode()) <= MAX_ATTRIBUTE_NAME_BYTES and len(fitting) < MAX_ATTRIBUTES:
                fitting[name] = cut(attributes[name])
    fitting.update({name: value for name, value in attributes.items() if name in ALL})
    fitting[BODY] = ABSENT
    fitting[PLACE] = cut(place)
    if body is not None:
        fitting[BYTES] = str(len(body))
        fitting[SHA256] = hashlib.sha256(body).hexdigest()
    return fitting


def short_key(key: str | None) -> str | None:
    """Return a key that every broker takes; None for one that is longer."""
    return key if key is not None and len(key.encode()) <= MAX_KEY_BYTES else None


def has_body(attributes: Mapping[str, str]) -> bool:
    """Tell whether a letter with these attributes has the body of the message that it was."""
    return attributes.get(BODY) != ABSENT


def texts_of(
    reason: str, error: BaseException | str | Sequence[BaseException | str], number: int
) -> list[str]:
    """Write the details of `number` dead letters, before anything is moved: one for all, or each.

    Raises:
        TypeError: as `text_of`.
        ValueError: there is another number of errors.
    """
    if isinstance(error, (str, BaseException)) or not isinstance(error, Sequence):
        return [text_of(reason, error)] * number
    if len(error) != number:
        raise ValueError(f"{number} messages and {len(error)} errors: give one, or one for each")
    return [text_of(reason, each) for each in error]


def text_of(reason: str, error: BaseException | str) -> str:
    """Write the details of a dead letter as text, before anything is moved.

    Raises:
        TypeError: the reason is not a string, or the error neither a string nor an exception.
    """
    if not isinstance(reason, str):
        raise TypeError(f"a reason must be a string, not {type(reason).__name__}")
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}"
    if not isinstance(error, str):
        raise TypeError(f"an error must be a string or an exception, not {type(error).__name__}")
    return error

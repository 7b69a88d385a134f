"""What a dead letter says of itself, in attributes beside the original ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from MessageBroker.limits import cut

REASON = "dead_letter_reason"
ERROR = "dead_letter_error"
ATTEMPTS = "dead_letter_attempts"
SOURCE_TOPIC = "dead_letter_source_topic"
MESSAGE_ID = "dead_letter_message_id"
TIME = "dead_letter_time"
ALL = frozenset((REASON, ERROR, ATTEMPTS, SOURCE_TOPIC, MESSAGE_ID, TIME))


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
        **original,
        REASON: cut(reason),
        ERROR: cut(error),
        ATTEMPTS: str(attempts),
        SOURCE_TOPIC: topic,
        MESSAGE_ID: message_id,
        TIME: datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


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

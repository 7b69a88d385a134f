"""Publishing many messages of which the broker may refuse some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from MessageBroker import BrokerInterface, OutgoingMessage
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    MessageTooLargeError,
    PublishError,
)


def publish_what_is_taken(
    broker: BrokerInterface, topic: str, messages: Sequence[OutgoingMessage]
) -> dict[int, BrokerError]:
    """Publish all that the broker takes, durably.

    Returns:
        Why it did not take the others, by their number.

    Raises:
        BrokerError: it takes none of them, for a reason that is not theirs.
    """
    try:
        broker.publish_batch(topic, messages)
    except AuthenticationError as error:
        return dict.fromkeys(range(len(messages)), error)
    except (PublishError, MessageTooLargeError) as error:
        failures = error.failures if isinstance(error, PublishError) else {}
        if failures:
            return dict(failures)
        if len(messages) == 1:
            return {0: error}
    else:
        return {}
    # One of them was refused before anything was sent; the others shall not suffer.
    refusals: dict[int, BrokerError] = {}
    for number, message in enumerate(messages):
        for refusal in publish_what_is_taken(broker, topic, [message]).values():
            refusals[number] = refusal
    return refusals


def refusal_of_the_program(refusals: Mapping[int, BrokerError]) -> BrokerError | None:
    """Return the error if it is this program that the broker refuses, not a message.

    Args:
        refusals: of `publish_what_is_taken`.
    """
    of_a_message = (PublishError, MessageTooLargeError)
    return next((each for each in refusals.values() if not isinstance(each, of_a_message)), None)

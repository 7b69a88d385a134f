"""Publishing many messages of which the broker may refuse some."""

from __future__ import annotations

from collections.abc import Sequence

from MessageBroker import BrokerInterface, OutgoingMessage
from MessageBroker.errors import BrokerError, MessageTooLargeError, PublishError


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

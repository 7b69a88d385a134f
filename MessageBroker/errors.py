"""The errors of the message brokers: the same classes whichever broker is used.

Each message says what was tried, where, and what to do. Handlers choose the class by the error
code of their client library, never by its text.
"""

from __future__ import annotations

from collections.abc import Mapping


class BrokerError(Exception):
    """Base class of all errors that a broker raises."""


class ConfigurationError(BrokerError):
    """Raised when a setting, a name or a subscription is wrong and somebody must change it."""


class BrokerUnavailableError(BrokerError):
    """Raised when the broker cannot be reached, or does not answer in time."""


class BrokerReplacedError(BrokerError):
    """Raised when what a broker has stored was removed, replaced or cut while it was in use."""


class AuthenticationError(BrokerError):
    """Raised when the broker refuses the credentials, or they lack a permission."""


class TopicNotFoundError(BrokerError):
    """Raised when a topic does not exist."""


class SubscriptionNotFoundError(BrokerError):
    """Raised when a subscription does not exist."""


class MessageNotFoundError(BrokerError):
    """Raised when a message is no longer where it stood."""


class MessageTooLargeError(BrokerError):
    """Raised when a message, its key or one of its attributes is over a limit."""


class PublishError(BrokerError):
    """Raised when messages can never be published as they are.

    Attributes:
        failures: the error of each message that failed, by its position in the batch.
    """

    def __init__(self, message: str, failures: Mapping[int, BrokerError] | None = None) -> None:
        super().__init__(message)
        self.failures: dict[int, BrokerError] = dict(failures or {})


class ClosedError(BrokerError):
    """Raised when a broker or a subscription is used after it was closed."""


def topic_not_found(said: str, topic: str) -> TopicNotFoundError:
    """Make the error for a topic that is missing.

    Args:
        said: where it is missing, and how.
        topic: the topic.
    """
    return TopicNotFoundError(
        f"{said}: create it with `python -m MessageBroker topics create {topic}`"
    )

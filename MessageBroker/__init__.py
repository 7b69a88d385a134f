"""One API over Apache Kafka, Google Cloud Pub/Sub and an embedded broker.

    with MessageBrokerFactory.get_broker("local") as broker:
        broker.create_topic("new_image_topic")
        broker.publish("new_image_topic", b"...", attributes={"subject": "7.png"}).result()
        with broker.subscribe("new_image_topic") as subscription:
            messages = subscription.receive(max_messages=256, timeout=1.0)
            subscription.ack(messages)

The contract stands in `MessageBroker.broker_interface` and `MessageBroker.subscription_interface`.
"""

from DurableText.program import first_signals

if first_signals.is_run("MessageBroker"):  # what follows takes time
    first_signals.break_off_quietly()

from MessageBroker.broker_interface import BrokerInterface, OutgoingMessage
from MessageBroker.configuration import DeliverySettings
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerReplacedError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    MessageTooLargeError,
    PublishError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.message import Message
from MessageBroker.message_broker_factory import MessageBrokerFactory, add_broker_option
from MessageBroker.registry import BROKER_NAMES, register_broker
from MessageBroker.subscription_interface import Subscription

__all__ = [
    "BROKER_NAMES",
    "AuthenticationError",
    "BrokerError",
    "BrokerInterface",
    "BrokerReplacedError",
    "BrokerUnavailableError",
    "ClosedError",
    "ConfigurationError",
    "DeliverySettings",
    "Message",
    "MessageBrokerFactory",
    "MessageTooLargeError",
    "OutgoingMessage",
    "PublishError",
    "Subscription",
    "SubscriptionNotFoundError",
    "TopicNotFoundError",
    "add_broker_option",
    "register_broker",
]

"""What Pub/Sub's errors mean here, told by their gRPC code and never by their text.

The text is not repeated either: it may hold what was sent, or what client libraries put around it.
"""

from __future__ import annotations

import grpc
from google.api_core import exceptions as google_errors

from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
)

# The service is away, overloaded or in the middle of something: the same call may succeed later.
# INTERNAL and UNKNOWN are what a connection that broke in mid-call looks like.
TRANSIENT_CODES = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
# What each call needs: https://cloud.google.com/pubsub/docs/access-control
_PERMISSIONS = {
    "get_topic": "pubsub.topics.get",
    "create_topic": "pubsub.topics.create",
    "delete_topic": "pubsub.topics.delete",
    "list_topics": "pubsub.topics.list",
    "list_topic_subscriptions": "pubsub.topics.get",
    "publish": "pubsub.topics.publish",
    "get_subscription": "pubsub.subscriptions.get",
    "create_subscription": "pubsub.subscriptions.create and pubsub.topics.attachSubscription",
    "delete_subscription": "pubsub.subscriptions.delete",
    "pull": "pubsub.subscriptions.consume",
    "streaming_pull": "pubsub.subscriptions.consume",
    "acknowledge": "pubsub.subscriptions.consume",
    "modify_ack_deadline": "pubsub.subscriptions.consume",
}
# `ErrorInfo.reason` of a project in which nobody has switched Pub/Sub on.
_API_IS_OFF = "SERVICE_DISABLED"


class ResourceNotFoundError(BrokerError):
    """Raised when Pub/Sub answers NOT_FOUND. The caller knows what it was that is missing."""


class ResourceExistsError(BrokerError):
    """Raised when Pub/Sub answers ALREADY_EXISTS."""


class NoAnswerInTimeError(BrokerUnavailableError):
    """Raised at DEADLINE_EXCEEDED: for a call that waits for messages, none came."""


def translate(
    error: google_errors.GoogleAPICallError,
    tried: str,
    call: str = "",
    account: str = "the account",
) -> BrokerError:
    """Turn an error of the client library into one of ours.

    Args:
        error: what the client library raised.
        tried: what was tried and where, for the message.
        call: the client's method, which tells the permission that it needs.
        account: who tried it.
    """
    code = error.grpc_status_code or grpc.StatusCode.UNKNOWN
    said = f"{tried}: {code.name}"
    if code in TRANSIENT_CODES:
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        return (NoAnswerInTimeError if late else BrokerUnavailableError)(
            f"{said}: check the network and that Pub/Sub (or the emulator that "
            "PUBSUB_EMULATOR_HOST names) is up"
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return ResourceNotFoundError(said)
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return ResourceExistsError(said)
    if error.reason == _API_IS_OFF:
        return ConfigurationError(
            f"{said}: Pub/Sub is switched off in this project: `gcloud services enable "
            "pubsub.googleapis.com`"
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        permission = _PERMISSIONS.get(call, "a permission")
        return AuthenticationError(
            f"{said}: {account} has no {permission}: give it the role that docs/pubsub.md lists "
            "for this program"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return AuthenticationError(
            f"{said}: Google does not take the credentials: make a new key, log in again with "
            "`gcloud auth application-default login`, or set this machine's clock right"
        )
    if call == "publish":
        return ConfigurationError(
            f"{said}: the service does not take a message as it is: check the topic's schema, and "
            "the limits of Pub/Sub"
        )
    return ConfigurationError(
        f"{said}: the service does not take the request as it is: check the project, and the "
        "names, sizes and settings that it is about"
    )

"""What Pub/Sub's errors mean here, told by their gRPC code and never by their text."""

from __future__ import annotations

import grpc
from google.api_core import exceptions as google_errors

from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
)

# Longer ones list every call of the client library; the first words say it.
MAX_DETAIL_CHARACTERS = 300

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
_REFUSED_CODES = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED})


class ResourceNotFoundError(BrokerError):
    """Raised when Pub/Sub answers NOT_FOUND. The caller knows what it was that is missing."""


class ResourceExistsError(BrokerError):
    """Raised when Pub/Sub answers ALREADY_EXISTS."""


class NoAnswerInTimeError(BrokerUnavailableError):
    """Raised at DEADLINE_EXCEEDED: for a call that waits for messages, none came."""


def translate(error: google_errors.GoogleAPICallError, tried: str) -> BrokerError:
    """Turn an error of the client library into one of ours.

    Args:
        error: what the client library raised.
        tried: what was tried and where, for the message.
    """
    code = error.grpc_status_code or grpc.StatusCode.UNKNOWN
    said = f"{tried}: {code.name}: {_first_words(error.message or '')}"
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
    if code in _REFUSED_CODES:
        return AuthenticationError(
            f"{said}: give the account that GOOGLE_APPLICATION_CREDENTIALS names the role that "
            "docs/pubsub.md lists for this program"
        )
    return ConfigurationError(said)


def _first_words(details: str) -> str:
    text = " ".join(details.split())
    return text if len(text) <= MAX_DETAIL_CHARACTERS else text[:MAX_DETAIL_CHARACTERS] + "…"

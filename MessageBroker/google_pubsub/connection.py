"""The connection to one project of Google Cloud Pub/Sub, or of its emulator.

It uses the generated client of google-cloud-pubsub, one RPC a call. The hand-written one above it
batches, retries and leases by itself, for one broker; here those are done once for all of them.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import grpc
from google.api_core import exceptions as google_errors
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from DurableText.installation.places import with_make
from MessageBroker.addresses import is_local, plain_address
from MessageBroker.environment import variable
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
)
from MessageBroker.google_pubsub.credentials import CREDENTIALS_TIMEOUT_SECONDS, Credentials
from MessageBroker.google_pubsub.errors import translate

EMULATOR_VARIABLE = "PUBSUB_EMULATOR_HOST"
SERVICE_HOST = "pubsub.googleapis.com"

# A look-up has to fail within 10 s; what is left is for a second one that explains the first.
ADMIN_TIMEOUT_SECONDS = 7.0
ADMIN_RETRY_SECONDS = 0.25
# A local port answers in milliseconds or never.
EMULATOR_CONNECT_SECONDS = 2.0

Client = TypeVar("Client")

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:@/\\\[\]]+):(?P<port>[0-9]{1,5})")
MAX_PORT = 65535

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it gRPC waits up to two minutes after an outage before it looks again.
    ("grpc.min_reconnect_backoff_ms", 5000),  # the time that one attempt may take
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A host that vanished answers nothing. Google's own client pings as often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Otherwise all channels of a process share one TCP connection, and closing a channel of pulls
    # would not tell the service that nobody waits any more.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """The clients of one project. They connect when they are first used."""

    def __init__(self, project_id: str, credentials: Any = None) -> None:
        """Prepare.

        Args:
            project_id: the project.
            credentials: google-auth's object; None to find them. An emulator needs none.
        """
        self.project_id = project_id
        self.emulator = plain_address(variable(EMULATOR_VARIABLE) or "")
        self._emulator_address = _host_and_port(self.emulator)
        self._lock = threading.Lock()
        self._credentials = Credentials(self.where, credentials)
        self._publisher: PublisherClient | None = None
        self._subscriber: SubscriberClient | None = None
        self._closed = False

    @property
    def where(self) -> str:
        """Name the place, for errors."""
        host = SERVICE_HOST
        if self.emulator:
            host = f"the emulator on {self.emulator if self._emulator_address else '?'}"
        return f"project {self.project_id!r} on {host}"

    def topic_path(self, topic: str) -> str:
        """Name a topic as Pub/Sub does."""
        return f"projects/{self.project_id}/topics/{topic}"

    def subscription_path(self, subscription_id: str) -> str:
        """Name a subscription as Pub/Sub does."""
        return f"projects/{self.project_id}/subscriptions/{subscription_id}"

    @property
    def publisher(self) -> PublisherClient:
        """The client for topics and publishing."""
        if self._publisher is None:
            self.prepare()
            with self._lock:
                self._require_open()
                if self._publisher is None:
                    self._publisher = self._new_client(PublisherClient, PublisherGrpcTransport)
        return self._publisher

    @property
    def subscriber(self) -> SubscriberClient:
        """The client for subscriptions, acks and leases."""
        if self._subscriber is None:
            self.prepare()
            with self._lock:
                self._require_open()
                if self._subscriber is None:
                    self._subscriber = self._new_subscriber()
        return self._subscriber

    def new_subscriber(self) -> SubscriberClient:
        """Open a subscriber client with a channel of its own; the caller closes its transport."""
        self.prepare()
        with self._lock:
            self._require_open()
            return self._new_subscriber()

    def prepare(self, timeout: float = CREDENTIALS_TIMEOUT_SECONDS) -> None:
        """Find the emulator, or credentials that Google takes; do nothing if that was done.

        Args:
            timeout: seconds.

        Raises:
            BrokerUnavailableError: the emulator or the token service does not answer in time.
            AuthenticationError: there are no credentials, or they are refused.
            ConfigurationError: the emulator's address is wrong.
        """
        self._require_open()
        if self._publisher is not None or self._subscriber is not None:
            return
        if self.emulator:
            self._check_emulator(min(timeout, EMULATOR_CONNECT_SECONDS))
        else:
            self._credentials.require(timeout)

    def _require_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def call(self, rpc: Callable[..., Any], request: Any, tried: str, timeout: float) -> Any:
        """Make one call, once.

        Args:
            rpc: a method of a client.
            request: its request.
            tried: what is tried, for the error.
            timeout: seconds.

        Raises:
            ClosedError: the channel was closed before the call.
            BrokerError: of the class that `translate` chooses.
        """
        deadline = time.monotonic() + timeout
        try:
            return rpc(request=request, timeout=timeout, retry=None)
        except google_errors.GoogleAPICallError as error:
            raise self._explain(error, tried, rpc, deadline) from None
        except ValueError as error:  # all that gRPC says of a channel that was closed
            raise self._closed_error() from error

    def stream(
        self,
        rpc: Callable[..., Any],
        requests: Iterator[Any],
        tried: str,
        timeout: float,
        metadata: Any,
    ) -> Iterator[Any]:
        """Make one streaming call and yield its answers. Arguments and errors: as `call`."""
        deadline = time.monotonic() + timeout
        try:
            answers = rpc(requests=requests, timeout=timeout, retry=None, metadata=(metadata,))
            try:
                yield from answers
            finally:
                answers.cancel()  # if it was left early; otherwise it has ended
        except google_errors.GoogleAPICallError as error:
            raise self._explain(error, tried, rpc, deadline) from None
        except ValueError as error:
            raise self._closed_error() from error

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the connection to {self.where} was closed")

    def _explain(
        self,
        error: google_errors.GoogleAPICallError,
        tried: str,
        rpc: Callable[..., Any],
        deadline: float,
    ) -> BrokerError:
        call = getattr(rpc, "__name__", "")
        tried = f"Pub/Sub: {tried} in {self.where} failed"
        failure = translate(error, tried, call, self._credentials.account)
        left = deadline - time.monotonic()
        if isinstance(failure, BrokerUnavailableError) and left > 0:
            self._credentials.check(left)  # gRPC calls refused credentials UNAVAILABLE too
        return failure

    def administrate(
        self,
        rpc: Callable[..., Any],
        request: Any,
        tried: str,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> Any:
        """Make a call, again and again while the broker is away, for up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                return self.call(rpc, request, tried, left)
            except BrokerUnavailableError:
                if time.monotonic() + ADMIN_RETRY_SECONDS >= deadline:
                    raise
                time.sleep(ADMIN_RETRY_SECONDS)

    def close(self) -> None:
        """Close the channels. Calls in progress end with an error."""
        with self._lock:
            self._closed = True
            for client in (self._publisher, self._subscriber):
                if client is not None:
                    client.transport.close()

    def _new_subscriber(self) -> SubscriberClient:
        return self._new_client(SubscriberClient, SubscriberGrpcTransport)

    def _new_client(self, client: Callable[..., Client], transport: Any) -> Client:
        if self.emulator:
            channel = grpc.insecure_channel(self.emulator, CHANNEL_OPTIONS)
            return client(transport=transport(channel=channel))

        def open_channel(host: str, **settings: Any) -> Any:
            return transport.create_channel(host, **{**settings, "options": CHANNEL_OPTIONS})

        return client(
            credentials=self._credentials.found, transport=partial(transport, channel=open_channel)
        )

    def _check_emulator(self, timeout: float) -> None:
        if self._emulator_address is None:
            raise ConfigurationError(
                f"{EMULATOR_VARIABLE} must be HOST:PORT, as in localhost:8085 (nothing before it, "
                "https:// least of all, which the emulator does not speak): correct it"
            )
        try:
            socket.create_connection(self._emulator_address, timeout).close()
        except OSError as error:
            start = with_make("pubsub", "gcloud beta emulators pubsub start")
            advice = f"start it with {start}" if is_local(self.emulator) else "check the address"
            raise BrokerUnavailableError(
                f"{EMULATOR_VARIABLE} names an emulator on {self.emulator}, which does not answer "
                f"({error.strerror or 'timed out'}): {advice}, or unset the variable to use Google "
                "Cloud"
            ) from None


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Split an address; None if it is none."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > MAX_PORT:
        return None
    host = found["host"].strip("[]")
    try:
        host.encode("idna")  # as the system does when it looks the host up
    except UnicodeError:
        return None
    return host, int(found["port"])

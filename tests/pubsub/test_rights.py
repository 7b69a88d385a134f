"""Rights and credentials: missing, refused, lost in mid-run, never found."""

from __future__ import annotations

import functools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.auth import exceptions as auth_errors
from google.pubsub_v1 import (
    DeleteSubscriptionRequest,
    ListTopicSubscriptionsResponse,
    Subscription,
)

from MessageBroker import (
    AuthenticationError,
    BrokerUnavailableError,
    ConfigurationError,
)
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.brokers.harness import clean_environment
from tests.pubsub.fake_service import FakeService

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("no_broker_of_ours")


SECRET = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"


def test_a_missing_permission_is_an_authentication_error_that_names_it(
    service: FakeService,
) -> None:
    service.refuse(
        "*",
        grpc.StatusCode.PERMISSION_DENIED,
        "User not authorized: permission pubsub.topics.get denied on resource",
    )
    with PubSubHandler("some-project") as broker:
        with pytest.raises(AuthenticationError, match=r"pubsub\.topics\.get") as caught:
            broker.publish("some-topic", b"x")
        assert "docs/pubsub.md" in str(caught.value)
        with pytest.raises(AuthenticationError):
            broker.ping(5.0)
        with pytest.raises(AuthenticationError):
            broker.create_topic("some-topic")


def test_refused_credentials_are_an_authentication_error(service: FakeService) -> None:
    service.refuse("*", grpc.StatusCode.UNAUTHENTICATED, "Request had invalid credentials.")
    with PubSubHandler("some-project") as broker, pytest.raises(AuthenticationError):
        broker.subscribe("some-topic")


def test_deleting_a_topic_deletes_all_subscriptions_that_it_may(service: FakeService) -> None:
    paths = [f"projects/some-project/subscriptions/{name}" for name in ("one", "two", "three")]
    deleted: list[str] = []

    def delete(request: bytes, context: grpc.ServicerContext) -> bytes:
        path = DeleteSubscriptionRequest.deserialize(request).subscription
        if path == paths[0]:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "pubsub.subscriptions.delete")
        deleted.append(path)
        return b""

    listed = ListTopicSubscriptionsResponse(subscriptions=paths)
    service.answer(
        "ListTopicSubscriptions", lambda *_: ListTopicSubscriptionsResponse.serialize(listed)
    )
    service.answer("DeleteTopic", lambda *_: b"")
    service.answer("DeleteSubscription", delete)
    with PubSubHandler("some-project") as broker:
        with pytest.raises(AuthenticationError, match="'one'"):
            broker.delete_topic("some-topic")
        assert deleted == paths[1:]


def test_a_right_that_is_lost_in_mid_run_reaches_the_publisher(service: FakeService) -> None:
    service.have_topics()
    service.refuse("Publish", grpc.StatusCode.PERMISSION_DENIED, "pubsub.topics.publish")
    with PubSubHandler("some-project") as broker:
        future = broker.publish("some-topic", b"x")
        with pytest.raises(AuthenticationError, match=r"pubsub\.topics\.publish"):
            future.result(10)


def test_a_right_that_is_lost_in_mid_run_reaches_the_consumer(service: FakeService) -> None:
    service.have_topics()
    found = Subscription(
        name="any", topic="projects/some-project/topics/some-topic", ack_deadline_seconds=12
    )
    service.answer("GetSubscription", lambda _request, _context: Subscription.serialize(found))
    service.refuse("*", grpc.StatusCode.PERMISSION_DENIED, "pubsub.subscriptions.consume")
    with (
        PubSubHandler("some-project") as broker,
        broker.subscribe("some-topic") as subscription,
        pytest.raises(AuthenticationError, match=r"pubsub\.subscriptions\.consume"),
    ):
        subscription.receive(1, 10.0)


class Credentials:
    """An account whose token is over; what a refresh does the test says."""

    valid = False

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def refresh(self, _request: object) -> None:
        if self.error is not None:
            raise self.error


def wrapped(how: str) -> Exception:
    """Return what google-auth makes of a metadata server that does not answer."""
    lost = auth_errors.TransportError("no route to the metadata server")
    refusal = auth_errors.RefreshError(lost if how == "args" else "no token")
    if how == "cause":
        refusal.__cause__ = lost
    return refusal


@pytest.mark.parametrize("how", ["args", "cause"])
def test_a_metadata_server_that_is_away_in_mid_run_is_waited_for(
    service: FakeService, how: str
) -> None:
    credentials = Credentials(wrapped(how))
    failures = threading.Semaphore(0)

    def away(_request: bytes, context: grpc.ServicerContext) -> bytes:
        failures.release()
        context.abort(grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed")
        raise AssertionError("abort raises")

    service.have_topics()
    service.answer("Publish", away)
    with PubSubHandler("some-project", credentials=credentials) as broker:
        future = broker.publish("some-topic", b"x")
        for _ in range(2):
            assert failures.acquire(timeout=20)
        assert not future.done()

        service.answer("Publish", lambda _request, _context: service.confirm(1))
        assert future.result(20) == "0"


def test_a_consumer_waits_for_a_metadata_server_that_is_away(service: FakeService) -> None:
    """A pull or stream that fails asks for a token, to see whether the credentials are refused."""
    failures: list[float] = []

    def away(_requests: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        failures.append(time.monotonic())
        context.abort(grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed")
        yield b""

    service.have_subscription("some-topic")
    service.answer_streams(away)
    credentials = Credentials(wrapped("args"))
    with PubSubHandler("some-project", credentials=credentials) as broker:
        subscription = broker.subscribe("some-topic")
        deadline = time.monotonic() + 20
        while len(failures) < 4:
            assert subscription.receive(1, 0.2) == []
            assert time.monotonic() < deadline


def test_a_token_that_is_refused_in_mid_run_ends_what_waits(service: FakeService) -> None:
    service.have_topics()
    service.refuse("Publish", grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed")
    credentials = Credentials(auth_errors.RefreshError("invalid_grant"))
    with PubSubHandler("some-project", credentials=credentials) as broker:
        future = broker.publish("some-topic", b"x")
        with pytest.raises(AuthenticationError, match="refuses the credentials"):
            future.result(20)


def test_the_token_service_is_asked_within_the_time_of_the_call(service: FakeService) -> None:
    """A call that failed as refused credentials do has some of its time left for that."""
    service.refuse("ListTopics", grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed")
    asked: list[float] = []

    class Asked(Credentials):
        def refresh(self, request: functools.partial[object]) -> None:
            asked.append(request.keywords["timeout"])

    with (
        PubSubHandler("some-project", credentials=Asked(None)) as broker,
        pytest.raises(BrokerUnavailableError),
    ):
        broker.ping(1.0)
    assert asked
    assert max(asked) <= 1.0


def test_a_token_service_that_hangs_keeps_nobody_beyond_the_time_of_the_call(
    service: FakeService,
) -> None:
    """google-auth asks the metadata server again and again, whatever time it is given."""
    service.refuse("ListTopics", grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed")
    answers = threading.Event()
    asked: list[object] = []

    class Hanging(Credentials):
        def refresh(self, request: object) -> None:
            asked.append(request)
            answers.wait(30)

    with PubSubHandler("some-project", credentials=Hanging(None)) as broker:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(BrokerUnavailableError):
                broker.ping(0.5)
            assert time.monotonic() - began < 5
        assert len(asked) == 1
        answers.set()


def test_an_unknown_project_is_a_configuration_error(service: FakeService) -> None:
    service.refuse("*", grpc.StatusCode.NOT_FOUND, "Requested project not found")
    with PubSubHandler("no-such-project") as broker:
        for attempt in (
            lambda: broker.publish("some-topic", b"x"),
            lambda: broker.create_topic("some-topic"),
            lambda: broker.ping(5.0),
            broker.list_topics,
        ):
            with pytest.raises(ConfigurationError, match="no-such-project"):
                attempt()


SAY_WHAT_PING_SAYS = """
import sys, time
from MessageBroker import *
broker = MessageBrokerFactory.get_broker("pubsub")
began = time.monotonic()
try: broker.ping(float(sys.argv[1]))
except BrokerError as error: print(type(error).__name__, error)
broker.close()
print(time.monotonic() - began)
"""


def ping_without_credentials(folder: Path, timeout: float) -> tuple[str, float]:
    """Ping in a process that has no key, no login, and a metadata server that never answers.

    Returns:
        The error, and the seconds that it took.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finished = subprocess.run(
            [sys.executable, "-c", SAY_WHAT_PING_SAYS, str(timeout)],
            cwd=ROOT,
            env={
                **clean_environment(),
                "GOOGLE_CLOUD_PROJECT": "some-project",
                "HOME": str(folder),
                "CLOUDSDK_CONFIG": str(folder),
                "GCE_METADATA_IP": f"127.0.0.1:{silent.getsockname()[1]}",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    error, seconds = finished.stdout.splitlines()
    return error, float(seconds)


def test_no_credentials_at_all_is_an_authentication_error_within_ten_seconds(
    tmp_path: Path,
) -> None:
    error, seconds = ping_without_credentials(tmp_path, 10.0)
    assert error.startswith("AuthenticationError Pub/Sub: no usable credentials")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in error
    assert seconds < 10


def test_looking_for_credentials_takes_no_longer_than_ping_may(tmp_path: Path) -> None:
    error, seconds = ping_without_credentials(tmp_path, 0.5)
    assert error.startswith("BrokerUnavailableError Pub/Sub: no credentials")
    assert seconds < 3  # which is what one question to the metadata server takes


def test_a_key_file_that_is_missing_is_an_authentication_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with PubSubHandler("some-project") as broker:
        with pytest.raises(AuthenticationError, match=r"nowhere\.json") as caught:
            broker.ping(5.0)
        assert "PUBSUB_EMULATOR_HOST" in str(caught.value)


@pytest.mark.parametrize(
    "contents",
    [
        f"{{ not JSON {SECRET}",
        json.dumps({"type": "service_account", "private_key": SECRET}),
        json.dumps(
            {
                "type": "service_account",
                "client_email": "a@b.iam.gserviceaccount.com",
                "token_uri": "https://127.0.0.1:1/token",
                "private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
            }
        ),
    ],
    ids=["no JSON", "fields missing", "no key"],
)
def test_a_broken_key_file_shows_nothing_of_its_key(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    contents: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "key.json"
    file.write_text(contents)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with PubSubHandler("some-project") as broker:
        with pytest.raises(AuthenticationError, match=r"key\.json") as caught:
            broker.ping(5.0)
        shown = [str(caught.value), repr(caught.value), repr(broker), repr(vars(broker))]
        shown += traceback.format_exception(caught.value)
        assert caught.value.__cause__ is None
    assert SECRET not in "".join(shown) + caplog.text

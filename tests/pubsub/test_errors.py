"""Bad input and bad days: each has its class and one line that says what to do."""

from __future__ import annotations

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
    PublishRequest,
    Subscription,
)

from MessageBroker import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    MessageBrokerFactory,
    OutgoingMessage,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.brokers.harness import FOREIGN_VARIABLES, clean_environment
from tests.pubsub.fake_service import FakeService
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"


@pytest.fixture(autouse=True)
def no_broker_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------------- who may do what


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


# ---------------------------------------------------------------------- nobody there


def test_an_emulator_variable_that_points_nowhere_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    with PubSubHandler("some-project") as broker:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match="make pubsub"):
            broker.ping(10.0)
        assert time.monotonic() - started < 5
        with pytest.raises(BrokerUnavailableError):
            broker.publish("some-topic", b"x")
        with pytest.raises(BrokerUnavailableError):
            broker.create_topic("some-topic")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:abc",
        ":",
        "https://localhost:8085/",
        "8085",
        "a..b:8085",
        "x" * 70 + ":1",
    ],
)
def test_an_emulator_variable_that_is_no_address_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    with (
        PubSubHandler("some-project") as broker,
        pytest.raises(ConfigurationError, match="HOST:PORT"),
    ):
        broker.ping(5.0)


def test_a_port_that_takes_connections_and_never_answers_is_told_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, PubSubHandler("some-project") as broker:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        broker = PubSubHandler("some-project")
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError):
            broker.subscribe("some-topic")
        assert time.monotonic() - started < 10
        broker.close()


# ---------------------------------------------------------------------- publishing


def test_a_message_that_the_service_refuses_does_not_take_its_batch_with_it(
    service: FakeService,
) -> None:
    def publish(request: bytes, context: grpc.ServicerContext) -> bytes:
        messages = PublishRequest.deserialize(request).messages
        if any(message.data == b"bad" for message in messages):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not of the topic's schema")
        return service.confirm(len(messages))

    service.have_topics()
    service.answer("Publish", publish)
    with PubSubHandler("some-project") as broker:
        with pytest.raises(PublishError, match="INVALID_ARGUMENT") as caught:
            broker.publish_batch(
                "some-topic", [OutgoingMessage(each) for each in (b"a", b"bad", b"c")]
            )
        assert set(caught.value.failures) == {1}


def test_a_service_that_is_overloaded_is_waited_for(service: FakeService) -> None:
    refusals = [
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    ]

    def publish(request: bytes, context: grpc.ServicerContext) -> bytes:
        if refusals:
            context.abort(refusals.pop(), "try again later")
        return service.confirm(len(PublishRequest.deserialize(request).messages))

    service.have_topics()
    service.answer("Publish", publish)
    with PubSubHandler("some-project") as broker:
        assert broker.publish("some-topic", b"x").result(20) == "0"


def test_messages_of_two_keys_that_come_at_once_are_sent_at_once(service: FakeService) -> None:
    together = threading.Barrier(2)

    def publish(request: bytes, context: grpc.ServicerContext) -> bytes:
        messages = PublishRequest.deserialize(request).messages
        try:
            if messages[0].ordering_key:
                together.wait(20)
        except threading.BrokenBarrierError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it came alone")
        return service.confirm(len(messages))

    service.have_topics()
    service.answer("Publish", publish)
    with PubSubHandler("some-project") as broker:
        broker.publish("some-topic", b"x").result(20)  # one sender has been started
        keyed = [OutgoingMessage(b"x", key) for key in ("a", "b")]
        assert broker.publish_batch("some-topic", keyed) == ["0", "0"]


def test_the_order_of_a_key_holds_when_a_request_has_to_be_repeated(service: FakeService) -> None:
    taken: list[bytes] = []
    failures = iter([True, False, True, True, False])
    first_request = threading.Event()

    def publish(request: bytes, context: grpc.ServicerContext) -> bytes:
        first_request.set()
        if next(failures, False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "try again later")
        messages = PublishRequest.deserialize(request).messages
        assert len({message.ordering_key for message in messages}) == 1
        taken.extend(message.data for message in messages)
        return service.confirm(len(messages))

    service.have_topics()
    service.answer("Publish", publish)
    bodies = [str(number).encode() for number in range(50)]
    with PubSubHandler("some-project") as broker:
        broker.publish("some-topic", bodies[0], key="k")
        assert first_request.wait(10)  # it fails, and waits to be repeated
        for body in bodies[1:]:
            broker.publish("some-topic", body, key="k")
        broker.flush(20)
    assert taken == bodies


def test_what_is_not_confirmed_at_the_close_fails_with_that(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def publish(_request: bytes, context: grpc.ServicerContext) -> bytes:
        asked.set()
        context.abort(grpc.StatusCode.UNAVAILABLE, "try again later")
        raise AssertionError("abort raises")

    service.have_topics()
    service.answer("Publish", publish)
    caplog.set_level(logging.INFO)
    broker = PubSubHandler("some-project")
    future = broker.publish("some-topic", b"x")
    assert asked.wait(10)

    broker.close(0.5)

    with pytest.raises(ClosedError):
        future.result(10)
    assert "waiting for it" in caplog.text
    assert "is back" not in caplog.text


def test_a_call_beside_the_close_says_that_it_was_closed(service: FakeService) -> None:
    service.have_subscription("some-topic")
    broker = PubSubHandler("some-project")
    assert broker.backlog("some-topic", "some-topic-sub") is None
    broker._connection.close()  # just after the call found the broker open
    for attempt in (
        lambda: broker._has_topic("some-topic"),
        lambda: broker._backlog("some-topic", "some-topic-sub"),
        lambda: broker._open_stream("some-topic", "some-topic-sub"),
        lambda: broker._ping(1.0),
        broker._connection.new_subscriber,
    ):
        with pytest.raises(ClosedError):
            attempt()
    with pytest.raises(ClosedError):
        broker.publish("some-topic", b"x").result(10)
    broker.close()


def test_a_topic_that_was_deleted_in_mid_run_fails_what_is_published(service: FakeService) -> None:
    service.have_topics()
    service.refuse("Publish", grpc.StatusCode.NOT_FOUND, "Resource not found")
    with PubSubHandler("some-project") as broker:
        future = broker.publish("some-topic", b"x")
        with pytest.raises(TopicNotFoundError, match="topics create some-topic"):
            future.result(10)


# ---------------------------------------------------------------------- configuration


def factory(folder: Path, text: str | None) -> BrokerError | str:
    """Write the INI files, and return the error of the factory, or the project."""
    (folder / "broker_config.ini").write_text("[broker]\nname = pubsub\n")
    if text is not None:
        (folder / "pubsub_config.ini").write_text(text)
    try:
        broker = MessageBrokerFactory.get_broker(config_dir=folder)
    except BrokerError as error:
        return error
    assert isinstance(broker, PubSubHandler)
    with broker:
        return broker._connection.project_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default]\nproject_id = <YOUR PROJECT ID>\n", "GOOGLE_CLOUD_PROJECT"),
        ("[default]\n", "project_id is missing"),
        ("[default]\nproject = some-project\n", "project is unknown"),
        ("[project]\nid = some-project\n", "unknown section"),
        ("[default]\nproject_id = My First Project\n", "not the name"),
        ("[default]\nproject_id = ${NO_SUCH_VARIABLE}\n", "NO_SUCH_VARIABLE"),
        (None, "pubsub_config.ini"),
    ],
)
def test_a_wrong_configuration_says_what_to_change(
    tmp_path: Path, text: str | None, said: str
) -> None:
    error = factory(tmp_path, text)
    assert isinstance(error, ConfigurationError)
    assert said in str(error)


def test_the_environment_names_the_project_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert factory(tmp_path, "[default]\nproject_id = of-the-file\n") == "of-the-file"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-the-environment")
    assert factory(tmp_path, "[default]\nproject_id = of-the-file\n") == "of-the-environment"


# ---------------------------------------------------------------------- manners


def test_nothing_but_our_own_words_reaches_the_terminal() -> None:
    """gRPC and google-auth write to the terminal by themselves, unless they are told not to."""
    script = (
        "from MessageBroker import *\n"
        "broker = MessageBrokerFactory.get_broker('pubsub')\n"
        "try: broker.ping(3)\n"
        "except BrokerUnavailableError: print('away')\n"
        "broker.close()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **clean_environment(),
            "GOOGLE_CLOUD_PROJECT": "some-project",
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{silent.getsockname()[1]}",
        }
        environment.pop("GRPC_VERBOSITY", None)
        finished = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert (finished.stdout, finished.stderr) == ("away\n", "")

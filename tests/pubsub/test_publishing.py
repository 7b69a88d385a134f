"""Publishing to a service that refuses, is overloaded, or answers late."""

from __future__ import annotations

import logging
import threading

import grpc
import pytest
from google.pubsub_v1 import (
    PublishRequest,
)

from MessageBroker import (
    ClosedError,
    OutgoingMessage,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.google_pubsub_handler import PubSubHandler
from tests.pubsub.fake_service import FakeService


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

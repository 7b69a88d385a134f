"""Pulls and streams as the emulator never ends or fills them: a fake service does."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest
from google.pubsub_v1 import ModifyAckDeadlineRequest, PullResponse, StreamingPullRequest

from MessageBroker import BrokerError, DeliverySettings, Message
from MessageBroker.conformance.stories import receive, receive_one, wait_until
from MessageBroker.google_pubsub import pulls
from MessageBroker.google_pubsub.inbox import Inbox
from MessageBroker.google_pubsub_handler import PubSubHandler
from MessageBroker.message import Delivery, DeliveryState
from tests.pubsub.fake_service import FakeService

TOPIC = "some-topic"


def messages_of(size: int, count: int) -> list[Message]:
    now = datetime.now(UTC)
    return [
        Message("id", b"", {}, "k", TOPIC, now, delivery=Delivery(None, size)) for _ in range(count)
    ]


class Source:
    """Numbered messages, one after another, for all pulls and streams.

    Args:
        service: it says that there is a topic, and takes all acks and leases.
        size: bytes of each message.
        key: of all messages.
        end: the status of streams that were half-closed.
        subscription: its settings.
    """

    def __init__(
        self,
        service: FakeService,
        *,
        size: int = 10,
        key: str = "k",
        end: grpc.StatusCode = grpc.StatusCode.OK,
        **subscription: object,
    ) -> None:
        self._size = size
        self._key = key
        self._end = end
        self._numbers = itertools.count()
        self.grants: list[tuple[int, int]] = []
        self.sent = 0
        self.open = 0
        service.have_subscription(TOPIC, enable_message_ordering=True, **subscription)
        service.answer("*", lambda _request, _context: b"")
        service.answer("Pull", lambda _request, _context: self.next())
        service.answer_streams(self.stream)

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send until the other side half-closes, whatever it has granted."""
        asked = StreamingPullRequest.deserialize(next(requests))
        self.grants.append((asked.max_outstanding_messages, asked.max_outstanding_bytes))
        ended = threading.Event()

        def wait_for_the_end() -> None:
            with contextlib.suppress(grpc.RpcError):  # it was cancelled
                for _ in requests:
                    pass
            ended.set()

        threading.Thread(target=wait_for_the_end, daemon=True).start()
        self.open += 1
        while not ended.wait(0.02) and context.is_active():
            yield self.next()
        self.open -= 1
        if self._end is not grpc.StatusCode.OK:
            context.abort(self._end, "the stream is over")

    def next(self) -> bytes:
        """Return an answer with the next message; the two methods' answers look the same."""
        number = next(self._numbers)
        self.sent += 1
        message = {
            "data": str(number).encode().ljust(self._size),
            "ordering_key": self._key,
            "message_id": str(number),
        }
        received = [{"ack_id": str(number), "message": message}]
        return PullResponse.serialize(PullResponse(received_messages=received))


@pytest.mark.parametrize(
    ("limits", "fits"),
    [({"max_outstanding_messages": 5}, 5), ({"max_outstanding_bytes": 1_000_000}, 4)],
    ids=["messages", "bytes"],
)
def test_what_is_read_ahead_of_keys_stays_within_the_limits(
    service: FakeService, limits: dict[str, int], fits: int
) -> None:
    source = Source(service, size=300_000)
    settings = DeliverySettings(**limits)  # type: ignore[arg-type]
    with PubSubHandler("some-project", delivery=settings) as broker:
        subscription = broker.subscribe(TOPIC)
        held = receive(subscription, fits)
        wait_until(lambda: source.open == 0, "full, it has no stream open")
        sent = source.sent
        assert sent < 100  # fifty a second come on each stream until it has ended

        for _ in range(10):
            assert subscription.receive(10, 0.1) == []  # it holds what it may
        assert (source.sent, source.open) == (sent, 0)

        while source.sent == sent:  # it goes on with what it has, and then with new streams
            subscription.ack(held)
            held = receive(subscription, 1)


def test_a_stream_is_granted_what_is_left_of_the_limits() -> None:
    inbox = Inbox(max_messages=5, max_bytes=1000)
    assert inbox.room() == (5, 1000)
    inbox.put(messages_of(100, count=4))
    assert (inbox.room(), inbox.full) == ((1, 600), False)
    out = inbox.fetch(2, 1000, 0)
    inbox.put(messages_of(600, count=3))
    assert (inbox.room(), inbox.full) == ((1, 1), True)  # nothing at all cannot be asked for

    for message, state in zip(out, (DeliveryState.DONE, DeliveryState.LOST), strict=True):
        message.delivery.state = state

    assert (len(inbox.deliveries()), inbox.full) == (5, True)
    inbox.clear()
    assert (inbox.room(), inbox.full) == ((5, 1000), False)


def test_a_consumer_at_its_limit_opens_no_stream_for_each_message(service: FakeService) -> None:
    source = Source(service)
    settings = DeliverySettings(max_outstanding_messages=40)
    with PubSubHandler("some-project", delivery=settings) as broker:
        subscription = broker.subscribe(TOPIC)
        for _ in range(200):
            subscription.ack(receive(subscription, 1))
            time.sleep(0.005)  # slower than they come
    assert len(source.grants) < 40


def test_a_thread_that_fails_lets_nobody_wait_for_ever(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever defect it is of, ours or a client library's."""
    Source(service)

    def fail(*_: object) -> Message:
        raise TypeError("out of its wits")

    monkeypatch.setattr(pulls, "decode", fail)
    with PubSubHandler("some-project") as broker:
        subscription = broker.subscribe(TOPIC)
        with pytest.raises(BrokerError, match="out of its wits"):
            receive_one(subscription)
        assert not subscription.ready
    assert "a thread that pulls has failed" in caplog.text


# ---------------------------------------------------------------------- what is no outage


def test_streams_that_end_with_an_error_as_they_do_on_the_service_are_no_outage(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(service, end=grpc.StatusCode.UNAVAILABLE)
    settings = DeliverySettings(max_outstanding_messages=5)
    with PubSubHandler("some-project", delivery=settings) as broker:
        subscription = broker.subscribe(TOPIC)
        while len(source.grants) < 6:
            held = receive(subscription, 5)
            wait_until(lambda: source.open == 0, "full, it half-closes before its time is over")
            assert subscription.ready
            subscription.ack(held)
    assert not caplog.records


def test_a_pull_that_ends_before_its_time_brought_nothing_and_is_no_outage(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(service, key="", end=grpc.StatusCode.UNAVAILABLE)
    pulls = itertools.count(1)
    asked = threading.Event()

    def pull(_request: bytes, context: grpc.ServicerContext) -> bytes:
        if next(pulls) <= 6:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing to deliver")
        asked.set()
        return source.next()

    service.answer("Pull", pull)
    with PubSubHandler("some-project") as broker:
        subscription = broker.subscribe(TOPIC)
        while not asked.is_set():
            subscription.ack(subscription.receive(10, 0.1))
            assert subscription.ready
        receive_one(subscription)
    assert not caplog.records


def test_a_batch_whose_long_leases_cannot_be_shortened_at_once_is_not_dropped(
    service: FakeService,
) -> None:
    Source(service, key="", ack_deadline_seconds=600)
    refused: set[str] = set()
    shortened: set[str] = set()

    def shorten(request: bytes, context: grpc.ServicerContext) -> bytes:
        ids = ModifyAckDeadlineRequest.deserialize(request).ack_ids
        if len(refused) < 2:
            refused.update(ids)
            context.abort(grpc.StatusCode.UNAVAILABLE, "try again later")
        shortened.update(ids)
        return b""

    service.answer("ModifyAckDeadline", shorten)
    with PubSubHandler("some-project") as broker:
        subscription = broker.subscribe(TOPIC)
        arrived: set[str] = set()

        def receive_some() -> None:
            arrived.update(message.id for message in subscription.receive(1, 0.1))

        wait_until(
            lambda: receive_some() is None and len(refused) >= 2 and refused <= arrived,
            "what came before the refusal is here",
        )
        wait_until(lambda: refused <= shortened, "its leases are short after all")

"""How messages travel: leases, requests that fit, pulls and streams."""

from __future__ import annotations

import threading
import time

import pytest
from google.pubsub_v1 import AcknowledgeRequest

from MessageBroker import OutgoingMessage
from MessageBroker.conformance.stories import (
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
    receive_one,
    wait_until,
)
from MessageBroker.core.clocks import boot_time
from MessageBroker.core.dead_letter import OF_EVERY_LETTER, dead_letter_attributes
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.google_pubsub.leases import Lease, Leases
from MessageBroker.google_pubsub.messages import (
    EMPTY_ATTRIBUTE,
    PACKED_ATTRIBUTE,
    decode,
    encode,
)
from MessageBroker.google_pubsub.publisher import LIMITS
from MessageBroker.message import Delivery
from tests.brokers.harness import BrokerUnderTest, PubSubUnderTest
from tests.pubsub.bare_client import BareClient
from tests.pubsub.fake_service import FakeService

on_the_emulator = pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True)

FAILOVER_SECONDS = 15.0
# What Pub/Sub takes in one request.
MAX_REQUEST_BYTES = 512 * 1024


def leased(count: int, seconds: float, id_bytes: int = 10) -> list[Delivery]:
    until = boot_time() + seconds
    return [Delivery(Lease(f"{number:0{id_bytes}}", until), 0) for number in range(count)]


@pytest.fixture
def leases(service: FakeService) -> Leases:
    service.answer("*", lambda _request, _context: b"")
    return Leases(Connection("some-project"), "some-subscription")


# ---------------------------------------------------------------------- leases


@pytest.mark.parametrize("id_bytes", [40, 220, 2000])
def test_acks_go_in_requests_that_the_service_takes(
    leases: Leases, service: FakeService, id_bytes: int
) -> None:
    leases.acknowledge(leased(6000, 10, id_bytes))
    assert max(len(request) for _, request in service.requests) < MAX_REQUEST_BYTES
    sent = [
        ack_id
        for _, request in service.requests
        for ack_id in AcknowledgeRequest.deserialize(request).ack_ids
    ]
    assert sent == [f"{number:0{id_bytes}}" for number in range(6000)]


def test_an_ack_whose_lease_is_over_is_late_and_sent_all_the_same(
    leases: Leases, service: FakeService
) -> None:
    """The message may be with nobody yet: then the ack spares it another delivery."""
    assert leases.acknowledge([*leased(2, -1.0), *leased(3, 5.0)]) == 2
    assert len(AcknowledgeRequest.deserialize(service.requests[0][1]).ack_ids) == 5


def test_only_leases_that_end_soon_are_renewed(leases: Leases, service: FakeService) -> None:
    fresh, old = leased(5, 11.0), leased(3, 4.0)
    assert leases.renew([*fresh, *old]) == []
    assert [method for method, _ in service.requests] == ["ModifyAckDeadline"]
    assert all(delivery.handle.until > boot_time() + 10 for delivery in old)


def test_leases_that_are_over_are_given_back_and_reported(
    leases: Leases, service: FakeService
) -> None:
    over = leased(2, -1.0)
    assert leases.renew([*over, *leased(3, 4.0)]) == over
    assert [method for method, _ in service.requests] == ["ModifyAckDeadline"] * 2


# ---------------------------------------------------------------------- messages


def test_a_message_without_anything_travels_with_an_attribute_that_nobody_sees() -> None:
    assert dict(encode(b"", None, {}).attributes) == {EMPTY_ATTRIBUTE: ""}
    message = decode(encode(b"", None, {}), "topic", None)
    assert (message.data, message.attributes, message.key) == (b"", {}, None)


@pytest.mark.parametrize(
    ("data", "attributes"),
    [(b"", {EMPTY_ATTRIBUTE: "", "a": "b"}), (b"x", {EMPTY_ATTRIBUTE: ""}), (b"x", {})],
)
def test_no_other_attribute_is_touched(data: bytes, attributes: dict[str, str]) -> None:
    message = decode(encode(data, "k", attributes), "topic", None)
    assert (message.data, message.attributes, message.key) == (data, attributes, "k")


def letter_of(count: int, value: str = "v") -> dict[str, str]:
    """Return the attributes of a dead letter whose message had `count` of its own."""
    return dead_letter_attributes(
        {f"name {number}": value for number in range(count)},
        topic="topic",
        message_id="1",
        attempts=1,
        reason="of no use",
        error="e" * 2000,
    )


@pytest.mark.parametrize("count", [94, 95, 100])
def test_a_letter_with_more_attributes_than_the_service_takes_carries_all_of_them(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    letter = letter_of(count)
    encoded = encode(b"x", None, letter)
    assert len(encoded.attributes) == min(count + 6, 100)
    assert all(len(value.encode()) <= 1024 for value in encoded.attributes.values())
    assert {name: encoded.attributes[name] for name in OF_EVERY_LETTER} == {
        name: letter[name] for name in OF_EVERY_LETTER
    }
    assert decode(encoded, "topic", None).attributes == letter
    assert not caplog.records


def test_attributes_that_fit_nowhere_are_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letter = letter_of(100, "v" * 300)
    encoded = encode(b"x", None, letter)
    assert len(encoded.attributes) == 100
    assert all(len(value.encode()) <= 1024 for value in encoded.attributes.values())
    (record,) = caplog.records
    for name in letter.keys() - decode(encoded, "topic", None).attributes.keys():
        assert name in record.getMessage()


@pytest.mark.parametrize("value", ["", "no JSON", "[1]", '{"a": 1}', "[" * 1024])
def test_an_attribute_of_that_name_which_is_not_ours_is_left_alone(value: str) -> None:
    message = decode(encode(b"x", None, {PACKED_ATTRIBUTE: value}), "topic", None)
    assert message.attributes == {PACKED_ATTRIBUTE: value}


@on_the_emulator
def test_a_service_that_answers_nothing_any_more_is_waited_for(
    running_broker: PubSubUnderTest,
    under_test: BrokerUnderTest,
) -> None:
    """No connection breaks: only time tells. The conformance suite has the other kind of outage."""
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"0").result()
    held = receive(subscription, 1)
    with running_broker.silence():
        future = broker.publish(topic, b"1")
        subscription.ack(held)
        # Its probe has failed by then.
        wait_until(lambda: subscription.receive(1, 0.2) == [] and not subscription.ready, "away")
        assert not future.done()
    assert future.result(60)
    receive_bodies([subscription], ["1"])


# ---------------------------------------------------------------------- pulls and streams


@on_the_emulator
def test_what_was_pulled_ahead_and_is_not_fetched_goes_to_others(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """A consumer that works on one message for an hour keeps that one."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(20))
    with broker.subscribe(topic) as busy:
        kept = receive_one(busy)
        came: list[str] = []
        deadline = time.monotonic() + 30
        while len(came) < 19:
            assert time.monotonic() < deadline, f"only these came: {came}"
            received = bare.pull(f"{topic}-sub", timeout=2.0)
            came += [each.message.data.decode() for each in received]
            if received:
                bare.ack(f"{topic}-sub", received)
        assert in_order([*came, kept.data.decode()]) == numbers(20)


@on_the_emulator
def test_keys_that_come_after_many_messages_without_lose_nothing_and_keep_their_order(
    under_test: BrokerUnderTest,
) -> None:
    """The first key turns the consumer from pulls to streams."""
    broker, topic = under_test.connect_with_topic()
    without = [OutgoingMessage(f"free {number}".encode()) for number in range(400)]
    keyed = [
        OutgoingMessage(f"{key} {number}".encode(), key) for number in range(100) for key in "abc"
    ]
    broker.publish_batch(topic, without[:200])
    subscription = broker.subscribe(topic)
    received = receive(subscription, 200)
    subscription.ack(received)

    broker.publish_batch(topic, [*keyed[:150], *without[200:], *keyed[150:]])
    later = receive(subscription, 500)  # none of them acknowledged meanwhile

    subscription.ack(later)
    arrived = bodies([*received, *later])
    for key in "abc":
        assert [text for text in arrived if text[0] == key] == [f"{key} {n}" for n in range(100)]
    assert sum(text.startswith("free") for text in arrived) == 400
    assert subscription.late_acks == 0


@on_the_emulator
def test_threads_end_with_their_subscription_and_their_broker(under_test: BrokerUnderTest) -> None:
    before = set(threading.enumerate())
    broker, topic = under_test.connect_with_topic()
    for key in (None, "k"):
        subscription = broker.subscribe(topic)
        broker.publish(topic, b"x", key=key).result()
        subscription.ack([receive_one(subscription)])
        subscription.close()
    broker.close()
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {name for name in left if "pull" in name or "publisher" in name or "lease" in name}


@on_the_emulator
def test_publishing_blocks_while_too_much_is_unconfirmed(under_test: BrokerUnderTest) -> None:
    total = LIMITS.pending_messages + 200
    broker, topic = under_test.connect_with_topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, b"0").result()
    published = 1
    all_published = threading.Event()

    def publish() -> None:
        nonlocal published
        for number in range(1, total):
            broker.publish(topic, str(number).encode())
            published += 1
        all_published.set()

    with under_test.outage():
        thread = threading.Thread(target=publish)
        thread.start()
        assert not all_published.wait(2.0)
        assert published <= LIMITS.pending_messages + 1
    assert all_published.wait(30)
    thread.join()
    receive_bodies([subscription], numbers(total))


@on_the_emulator
@pytest.mark.timeout(120)
def test_a_stopped_consumers_keys_go_to_another_in_order(under_test: BrokerUnderTest) -> None:
    """The service goes on sending to a stopped consumer's streams: they must end soon."""
    broker, topic = under_test.connect_with_topic()
    broker.publish_batch(topic, numbered(5, key="k"))
    worker = under_test.worker()
    worker.call("subscribe", topic=topic)
    assert worker.call("receive", count=5) == numbers(5)
    subscription = broker.subscribe(topic)
    worker.pause()
    ended = time.monotonic()
    broker.publish_batch(topic, [OutgoingMessage(str(n).encode(), "k") for n in range(5, 8)])
    arrived: list[str] = []
    while not set(numbers(8)) <= set(arrived):
        messages = subscription.receive(10, 0.5)
        subscription.ack(messages)
        arrived += bodies(messages)
        assert time.monotonic() - ended < FAILOVER_SECONDS, f"only these came: {arrived}"
    # What came while the first was believed to be alive may come again, in its place.
    assert arrived[-8:] == numbers(8)

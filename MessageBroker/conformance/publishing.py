"""Publishing."""

from __future__ import annotations

import enum
import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from MessageBroker import OutgoingMessage
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_one,
)

AWKWARD_TEXTS = {
    "ascii": "".join(map(chr, range(128))),
    "NUL": "one\0two\0",
    "latin": "éüñß",
    "wide": "数字 — семь — 七",
    "emoji": "7️⃣ 👩‍💻",
    "empty": "",
    "spaces": "  two before, two after  ",
    "url": "%2F?a=b&c=d#e",
    "longest": "x" * 1024,
}


def test_a_message_arrives_as_it_was_published(under_test: BrokerUnderTest) -> None:
    """A message arrives with its body, its key and exactly its attributes."""
    broker, topic = under_test.connect_with_topic()
    attributes = {"ce_id": "1", "content-type": "image/png", "Upper-Case": "Kept"}

    broker.publish(topic, b"the body", key="the key", attributes=attributes).result()

    message = receive_one(broker.subscribe(topic))
    assert (message.data, message.key, message.attributes, message.topic) == (
        b"the body",
        "the key",
        attributes,
        topic,
    )


def test_a_broker_can_be_made_ready_before_the_first_message(under_test: BrokerUnderTest) -> None:
    """`prepare_publishing` returns for a topic that is there; publishing works without it, too."""
    prepared, topic = under_test.connect_with_topic()

    prepared.prepare_publishing(topic)
    prepared.publish_batch(topic, [OutgoingMessage(b"one")])
    under_test.connect().publish_batch(topic, [OutgoingMessage(b"two")])

    assert sorted(bodies(receive(prepared.subscribe(topic), 2))) == ["one", "two"]


def test_an_empty_body_arrives_as_empty_bytes(under_test: BrokerUnderTest) -> None:
    """An empty body without attributes arrives as b"" without attributes."""
    broker, topic = under_test.connect_with_topic()

    broker.publish(topic, b"").result()

    message = receive_one(broker.subscribe(topic))
    assert (message.data, message.key, message.attributes) == (b"", None, {})


def test_a_body_is_bytes_not_text(under_test: BrokerUnderTest) -> None:
    """A body of 900 KB with every byte value arrives unchanged."""
    broker, topic = under_test.connect_with_topic()
    body = bytes(range(256)) * 3600

    broker.publish(topic, body).result()

    assert receive_one(broker.subscribe(topic)).data == body


def test_awkward_text_passes_in_attributes(under_test: BrokerUnderTest) -> None:
    """Any UTF-8 text passes in attribute values, names and keys: controls, emoji, spaces, none."""
    broker, topic = under_test.connect_with_topic()
    names = {f"{name} 数 %": "name" for name in AWKWARD_TEXTS}

    broker.publish(topic, b"", key="ключ 🔑 %41", attributes={**AWKWARD_TEXTS, **names}).result()

    message = receive_one(broker.subscribe(topic))
    assert message.attributes == {**AWKWARD_TEXTS, **names}
    assert message.key == "ключ 🔑 %41"


def test_an_empty_key_is_no_key(under_test: BrokerUnderTest) -> None:
    """A message published with the key "" arrives without a key."""
    broker, topic = under_test.connect_with_topic()

    broker.publish(topic, b"body", key="").result()

    assert receive_one(broker.subscribe(topic)).key is None


def test_the_publisher_learns_the_id(under_test: BrokerUnderTest) -> None:
    """The future of a publication holds the id under which the message arrives."""
    broker, topic = under_test.connect_with_topic()

    message_id = broker.publish(topic, b"body").result()

    assert receive_one(broker.subscribe(topic)).id == message_id


def test_publish_batch_returns_ids_in_order(under_test: BrokerUnderTest) -> None:
    """`publish_batch` returns the ids in the order of its messages, all different."""
    broker, topic = under_test.connect_with_topic()

    ids = broker.publish_batch(topic, numbered(300))

    arrived = {message.id: message for message in receive(broker.subscribe(topic), 300)}
    assert bodies(arrived[message_id] for message_id in ids) == numbers(300)


def test_an_empty_batch_publishes_nothing(under_test: BrokerUnderTest) -> None:
    """An empty batch is fine and publishes nothing."""
    broker, topic = under_test.connect_with_topic()

    assert broker.publish_batch(topic, []) == []

    assert_nothing_comes(broker.subscribe(topic))


def test_a_mixed_batch_keeps_each_message_apart(under_test: BrokerUnderTest) -> None:
    """Messages of one batch keep their own keys and attributes."""
    broker, topic = under_test.connect_with_topic()
    batch = [
        OutgoingMessage(b"plain"),
        OutgoingMessage(b"keyed", key="a"),
        OutgoingMessage(b"labelled", attributes={"label": "7"}),
        OutgoingMessage(b"", key="b", attributes={"label": "8"}),
    ]

    broker.publish_batch(topic, batch)

    arrived = {
        (message.data, message.key, tuple(message.attributes.items()))
        for message in receive(broker.subscribe(topic), 4)
    }
    assert arrived == {
        (each.data, each.key, tuple((each.attributes or {}).items())) for each in batch
    }


class Label(str, enum.Enum):  # noqa: UP042 - a StrEnum would print as its value
    """Text of a class of its own, as programs name their attributes."""

    NAME = "label"
    VALUE = "7"


def test_text_and_mappings_may_be_of_any_class(under_test: BrokerUnderTest) -> None:
    """Keys, names and values may be of a subclass of str, attributes of any kind of mapping."""
    broker, topic = under_test.connect_with_topic()
    attributes: dict[str, str] = {Label.NAME: Label.VALUE}

    broker.publish(topic, b"enum", key=Label.VALUE, attributes=attributes).result(30)
    broker.publish_batch(
        topic, [OutgoingMessage(b"proxy", Label.VALUE, MappingProxyType(attributes))]
    )

    for message in receive(broker.subscribe(topic), 2):
        assert (message.key, message.attributes) == ("7", {"label": "7"})


def test_attributes_are_taken_when_publish_is_called(under_test: BrokerUnderTest) -> None:
    """A message has the attributes of the moment of its `publish`, whatever becomes of them."""
    broker, topic = under_test.connect_with_topic()
    attributes: dict[str, str] = {}
    for number in range(50):
        attributes["number"] = str(number)
        broker.publish(topic, str(number).encode(), attributes=attributes)

    messages = receive(broker.subscribe(topic), 50)

    assert [each.attributes["number"].encode() for each in messages] == [
        each.data for each in messages
    ]


def test_ids_never_repeat(under_test: BrokerUnderTest) -> None:
    """Ids never repeat, not even after the topic was deleted and made again."""
    broker, topic = under_test.connect_with_topic()
    first_life = broker.publish_batch(topic, numbered(20))

    broker.delete_topic(topic)
    broker.create_topic(topic)
    second_life = broker.publish_batch(topic, numbered(20))

    assert len({*first_life, *second_life}) == 40


def test_the_publish_time_is_utc(under_test: BrokerUnderTest) -> None:
    """`publish_time` is when the broker took the message, with the time zone UTC."""
    broker, topic = under_test.connect_with_topic()

    broker.publish(topic, b"body").result()

    published = receive_one(broker.subscribe(topic)).publish_time
    assert published.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - published) < timedelta(minutes=1)


def test_parallel_publishers_lose_nothing(under_test: BrokerUnderTest) -> None:
    """Eight threads that publish over one handler at once lose nothing and mix nothing up."""
    broker, topic = under_test.connect_with_topic()

    def publish(first: int) -> None:
        for number in range(first, first + 100):
            broker.publish(topic, str(number).encode(), attributes={"number": str(number)})

    threads = [threading.Thread(target=publish, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broker.flush(30)

    arrived = receive(broker.subscribe(topic), 800)
    assert in_order(bodies(arrived)) == numbers(800)
    assert all(message.attributes == {"number": message.data.decode()} for message in arrived)


def test_flush_waits_for_confirmations(under_test: BrokerUnderTest) -> None:
    """After `flush` everything published before it is confirmed."""
    broker, topic = under_test.connect_with_topic()
    futures = [broker.publish(topic, each.data) for each in numbered(500)]

    broker.flush(30)

    assert all(future.done() and future.result() for future in futures)


def test_a_publication_cannot_be_cancelled(under_test: BrokerUnderTest) -> None:
    """What was handed to the broker cannot be cancelled: its future always tells the outcome."""
    broker, topic = under_test.connect_with_topic()

    future = broker.publish(topic, b"body")

    assert not future.cancel()
    assert future.result(30)


def test_a_future_may_publish_more(under_test: BrokerUnderTest) -> None:
    """Callbacks of futures may publish, also more than the client's buffer holds."""
    broker, topic = under_test.connect_with_topic()
    confirmed = threading.Semaphore(0)

    def publish_more(_: Future[str]) -> None:
        for _number in range(1200):
            broker.publish(topic, b"more").add_done_callback(lambda _: confirmed.release())

    for _ in range(10):
        broker.publish(topic, b"first").add_done_callback(publish_more)

    for _ in range(12_000):
        assert confirmed.acquire(timeout=30)


def test_each_of_many_futures_may_publish_another(under_test: BrokerUnderTest) -> None:
    """The callbacks of 20,000 futures may publish another each, while the buffer is full."""
    broker, topic = under_test.connect_with_topic()
    half_is_published = threading.Event()
    confirmed = threading.Semaphore(0)

    def publish_another(_: Future[str]) -> None:
        half_is_published.wait(5.0)  # so that the buffer is as full as it can be
        broker.publish(topic, b"another").add_done_callback(lambda _: confirmed.release())

    def publish_all() -> None:
        for number in range(20_000):
            broker.publish(topic, b"one").add_done_callback(publish_another)
            if number == 10_000:
                half_is_published.set()

    # A daemon: where it blocks for ever the test fails, and ends.
    threading.Thread(target=publish_all, daemon=True).start()

    for count in range(20_000):
        assert confirmed.acquire(timeout=30), f"after {count} nothing more is confirmed"


def test_topics_are_isolated(under_test: BrokerUnderTest) -> None:
    """Messages of one topic never show on another."""
    broker, topic = under_test.connect_with_topic()
    other = under_test.unused_name()
    broker.create_topic(other)

    broker.publish_batch(topic, numbered(10))

    assert in_order(bodies(receive(broker.subscribe(topic), 10))) == numbers(10)
    assert_nothing_comes(broker.subscribe(other))


def test_one_handler_serves_many_topics(under_test: BrokerUnderTest) -> None:
    """One handler publishes to and consumes from many topics at the same time."""
    broker = under_test.connect()
    topics = [under_test.unused_name() for _ in range(5)]
    for topic in topics:
        broker.create_topic(topic)
    subscriptions = [broker.subscribe(topic) for topic in topics]

    for number in range(20):
        for topic in topics:
            broker.publish(topic, f"{topic} {number}".encode())

    for topic, subscription in zip(topics, subscriptions, strict=True):
        arrived = bodies(receive(subscription, 20))
        assert sorted(arrived) == sorted(f"{topic} {number}" for number in range(20))

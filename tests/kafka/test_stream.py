"""One consumer of a group, where only a client that fails at a given moment can show it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from MessageBroker import BrokerError, BrokerUnavailableError, Message
from MessageBroker.kafka import beginning, hearing, liveness
from MessageBroker.kafka import stream as streams
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.committed_offsets import GroupReader, GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.refused import Span
from MessageBroker.kafka.settings import KafkaSettings
from MessageBroker.kafka.stream import KafkaStream
from MessageBroker.message import Delivery, DeliveryState
from tests.kafka.fakes import TOPIC, FakeAdmin, FakeConsumer, FakeGroups, Hanging
from tests.waiting import wait_until

CONSUMED = GroupTopic(TOPIC, "id", f"{TOPIC}-sub", "nowhere", from_the_beginning=True)
PATIENCE_SECONDS = 20.0
MUCH = 10**9  # bytes: no limit


def joined(
    client: FakeConsumer,
    admin: FakeAdmin | None = None,
    session_seconds: float = 60.0,
    next_client: FakeConsumer | None = None,
    groups: FakeGroups | None = None,
) -> KafkaStream:
    """A stream over a client, that has joined its group."""
    clients = iter([client, next_client])

    def open_client(on_commit: streams.OnCommit) -> Consumer:
        opened = next(clients)
        assert opened is not None
        opened.on_commit = on_commit
        return cast("Consumer", opened)

    stream = KafkaStream(
        open_client,
        ClientEvents(KafkaSettings({"bootstrap.servers": CONSUMED.servers}, {}, {})),
        cast("KafkaAdmin", admin or FakeAdmin(client)),
        cast("GroupReader", groups or FakeGroups(client)),
        CONSUMED,
        session_seconds,
        lambda _partition, said, _position: Span(said, said),
    )
    stream.join(sorted(client.log))
    return stream


def fetch(stream: KafkaStream, count: int) -> list[Message]:
    """Fetch `count` messages, those that are not lost already."""
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(messages) < count and time.monotonic() < deadline:
        fetched = stream.fetch(count - len(messages), MUCH, 0.01)
        messages += [each for each in fetched if each.delivery.state is DeliveryState.OUT]
    assert len(messages) == count
    return messages


def acknowledge(stream: KafkaStream, messages: Sequence[Message]) -> int:
    """Acknowledge as the core does it."""
    for message in messages:
        message.delivery.state = DeliveryState.DONE
    return stream.acknowledge([each.delivery for each in messages])


def test_a_group_that_was_dealt_out_before_its_topic_was_known_everywhere_is_dealt_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "SUSPICIOUS_SECONDS", 0.1)
    client = FakeConsumer({0: [b"a"], 1: [b"b"]})
    client.empty_deals = 2

    stream = joined(client)

    assert {each.data for each in fetch(stream, 2)} == {b"a", b"b"}


def test_joining_goes_on_when_the_start_is_not_found_at_once() -> None:
    client = FakeConsumer({0: [b"a"], 1: [b"b"]})
    admin = FakeAdmin(client)
    admin.faults = [BrokerUnavailableError("no leader")]

    stream = joined(client, admin)

    assert {each.data for each in fetch(stream, 2)} == {b"a", b"b"}


def test_an_error_while_partitions_come_is_told_once_and_they_are_not_forgotten() -> None:
    client = FakeConsumer({0: [b"a"], 1: [b"b"]})
    admin = FakeAdmin(client)
    client.owned, client.committed_offsets = {0}, {1: 0}  # the other one is another consumer's
    stream = joined(client, admin)
    fetch(stream, 1)
    admin.faults = [BrokerError("out of its wits")]
    client.owned = {0, 1}  # another consumer has left

    with pytest.raises(BrokerError, match="out of its wits"):
        fetch(stream, 1)
    assert not stream.ready

    assert [each.data for each in fetch(stream, 1)] == [b"b"]
    assert stream.ready


def test_a_fetch_does_not_wait_for_where_to_begin_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Partitions come from another consumer, and the broker hangs before it says where to go on."""
    caplog.set_level(logging.INFO)
    client, hanging = FakeConsumer({0: [b"a"], 1: [b"b"]}), Hanging()
    groups = FakeGroups(client)
    client.owned, client.committed_offsets = {0}, {1: 0}  # the other one is another consumer's
    stream = joined(client, groups=groups)
    monkeypatch.setattr(beginning, "TELL_SECONDS", 0.05)
    groups.on_read = hanging
    client.owned = {0, 1}  # another consumer has left

    assert [each.data for each in fetch(stream, 1)] == [b"a"]
    hanging.begun.wait(PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not caplog.messages and time.monotonic() < deadline:
        assert stream.fetch(1, MUCH, 0.0) == []

    assert hanging.hangs, "it was waited for"
    assert "waiting to begin in the partitions 1" in caplog.text
    hanging.answers.set()
    assert [each.data for each in fetch(stream, 1)] == [b"b"]
    assert "no partition waits any more" in caplog.messages[-1]


def test_what_was_found_before_a_partition_went_and_came_back_is_not_believed() -> None:
    """Another consumer has had it meanwhile, and gone on."""
    client, hanging = FakeConsumer({0: [b"a", b"b"], 1: []}), Hanging()
    admin = FakeAdmin(client)
    client.owned, client.committed_offsets = {1}, {0: 0}
    stream = joined(client, admin)
    admin.on_ask = hanging  # what is committed was read by then
    client.owned = {0, 1}
    stream.fetch(1, MUCH, 0.0)
    hanging.begun.wait(PATIENCE_SECONDS)
    client.owned = {1}
    stream.fetch(1, MUCH, 0.0)
    client.committed_offsets[0], client.owned = 1, {0, 1}
    stream.fetch(1, MUCH, 0.0)
    hanging.answers.set()
    hanging.ended.wait(PATIENCE_SECONDS)

    assert [each.data for each in fetch(stream, 1)] == [b"b"]


def test_a_group_that_cannot_commit_where_it_begins_does_not_begin_there() -> None:
    client = FakeConsumer({0: [b"a"], 1: []})
    client.owned, client.committed_offsets = {1}, {0: 0}
    stream = joined(client)
    del client.committed_offsets[0]  # it has expired, say
    client.commit_error = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    client.owned = {0, 1}
    for _ in range(10):
        assert stream.fetch(1, MUCH, 0.01) == []
        time.sleep(0.01)
    assert not stream.ready

    client.commit_error = None
    assert [each.data for each in fetch(stream, 1)] == [b"a"]
    assert client.committed_offsets[0] == 0


def test_acks_that_could_not_be_stored_are_stored_later() -> None:
    client = FakeConsumer({0: [b"a", b"b"]})
    stream = joined(client)
    client.faults["store_offsets"] = [KafkaException(KafkaError(KafkaError._STATE))]
    acknowledge(stream, fetch(stream, 2))

    stream.fetch(1, MUCH, 0)
    assert client.stored == {}
    stream.fetch(1, MUCH, 0)
    assert client.stored == {0: 2}


def test_what_an_interrupted_fetch_had_taken_is_not_skipped() -> None:
    bodies = [b"a", b"b", b"c", b"d"]
    client = FakeConsumer({0: bodies})
    stream = joined(client)
    client.faults["consume"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        stream.fetch(2, MUCH, 0.01)

    assert [each.data for each in fetch(stream, 4)] == bodies


def test_what_a_failed_call_of_the_client_had_taken_is_not_skipped() -> None:
    bodies = [b"a", b"b", b"c", b"d"]
    client = FakeConsumer({0: bodies})
    stream = joined(client)
    client.faults["consume"] = [KafkaException(KafkaError(KafkaError._FAIL))]
    with pytest.raises(BrokerError):
        stream.fetch(2, MUCH, 0.01)

    assert [each.data for each in fetch(stream, 4)] == bodies


def test_a_client_that_can_work_no_more_is_told_each_time() -> None:
    client = FakeConsumer({0: [b"a", b"b"]})
    stream = joined(client)
    client.faults["consume"] = [KafkaException(KafkaError(KafkaError._FATAL))]
    client.faults["unsubscribe"] = [KafkaException(KafkaError(KafkaError._FATAL))] * 2
    for _ in range(3):
        with pytest.raises(BrokerError):
            stream.fetch(2, MUCH, 0.01)


def test_a_partition_that_came_back_at_once_and_cannot_be_read_anew_is_not_skipped() -> None:
    bodies = [b"a", b"b", b"c", b"d"]
    client = FakeConsumer({0: bodies})
    stream = joined(client)
    client.faults["consume"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):  # so that it joins anew
        stream.fetch(2, MUCH, 0.01)
    client.faults["seek"] = [KafkaException(KafkaError(KafkaError._STATE))]

    assert [each.data for each in fetch(stream, 4)] == bodies


def test_what_is_handed_out_as_a_stop_is_noticed_is_lost_not_an_error() -> None:
    bodies = [b"a", b"b", b"c"]
    client = FakeConsumer({0: bodies})
    # With a session of no length every call notices that all stood still, and asks the group.
    stream = joined(client, session_seconds=0.0)

    def expel() -> None:
        client.on_read = lambda: None
        client.commit_error = KafkaError(KafkaError.UNKNOWN_MEMBER_ID)
        stream.acknowledge([])  # as another thread does
        client.commit_error = None

    client.on_read = expel
    handed_out = stream.fetch(3, MUCH, 0.01)

    assert [each.delivery.state for each in handed_out] == [DeliveryState.LOST] * 3
    assert [each.data for each in fetch(stream, 3)] == bodies


def test_whoever_wakes_while_the_broker_is_away_does_not_ask_it_whether_it_is_a_member() -> None:
    """The client would wait for the answer, however long; what was held comes again."""
    client = FakeConsumer({0: [b"a"]})
    admin = FakeAdmin(client)
    stream = joined(client, admin)
    (held,) = fetch(stream, 1)
    stream._standstill._seconds = -1.0  # every call notices that all stood still
    admin.is_away = True
    client.commit_error = KafkaError(KafkaError._TIMED_OUT)

    assert acknowledge(stream, [held]) == 1

    assert client.commits == 1  # where it began
    admin.is_away, client.commit_error = False, None
    assert [each.data for each in fetch(stream, 1)] == [b"a"]


def test_acks_of_a_partition_that_went_elsewhere_are_late_and_earlier_ones_are_committed() -> None:
    client = FakeConsumer({0: [b"a", b"b", b"c"], 1: [b"d"]})
    stream = joined(client)
    lost: list[Delivery] = []
    stream.on_lost = lost.extend
    a, b, c, d = fetch(stream, 4)
    client.owned = {1}
    client.on_poll = lambda: acknowledge(stream, [a])  # by another thread, as this one waits

    assert stream.fetch(1, MUCH, 0) == []

    assert client.stored == {0: 1}
    assert lost == [b.delivery, c.delivery]
    assert acknowledge(stream, [b, c, d]) == 2


def test_a_partition_that_came_back_at_once_is_read_from_what_is_acknowledged() -> None:
    client = FakeConsumer({0: [b"a", b"b", b"c"]})
    stream = joined(client)
    (a, _) = fetch(stream, 2)
    acknowledge(stream, [a])
    stream.fetch(1, MUCH, 0)  # tells the client
    client.committed_offsets = client.stored
    client.owned = set()
    stream.fetch(1, MUCH, 0)
    client.owned = {0}

    assert [each.data for each in fetch(stream, 2)] == [b"b", b"c"]


def test_the_byte_limit_bounds_what_waits_in_the_process() -> None:
    client = FakeConsumer({0: [bytes(500_000)] * 150})
    stream = joined(client)
    waiting, arrived = [], 0
    while arrived < 150:
        messages = stream.fetch(500, 1_000_000, 0.01)
        assert messages
        acknowledge(stream, messages)
        arrived += len(messages)
        waiting.append(client.taken - arrived)

    assert max(waiting) <= 4


def test_closing_asks_nothing_of_a_client_that_answers_no_more() -> None:
    client = FakeConsumer({0: [b"a"], 1: [b"b"]})
    stream = joined(client)
    acknowledge(stream, fetch(stream, 2))
    client.owned = {0}  # the group has dealt anew, and nobody has looked yet

    stream.close([])

    assert client.closed
    assert client.stored == {0: 1, 1: 1}


def test_a_client_that_cannot_leave_its_group_any_more_is_closed_all_the_same() -> None:
    client = FakeConsumer({0: [b"a"]})
    stream = joined(client)
    client.faults["unsubscribe"] = [KafkaException(KafkaError(KafkaError._FATAL))]

    stream.close([])

    assert client.closed


def test_closing_says_so_if_the_group_cannot_be_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("MessageBroker.kafka.stream.LEAVE_TIMEOUT_SECONDS", 0.1)
    client, answers = FakeConsumer({0: [b"a"]}), threading.Event()
    stream = joined(client)
    client.on_poll = answers.wait

    stream.close([])

    (line,) = [each.getMessage() for each in caplog.records]
    assert "the group was not left within 0.1 s" in line
    answers.set()


def test_a_client_that_hears_of_no_broker_is_replaced_and_nothing_is_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_SECONDS", -1.0)
    monkeypatch.setattr(hearing, "INTERVAL_SECONDS", -1.0)
    bodies = [b"a", b"b", b"c", b"d"]
    deaf, other = FakeConsumer({0: bodies}), FakeConsumer({0: bodies})
    stream = joined(deaf, next_client=other)
    lost: list[Delivery] = []
    stream.on_lost = lost.extend
    first, second = fetch(stream, 2)
    acknowledge(stream, [first])
    other.committed_offsets = deaf.committed_offsets = {0: 1}
    deaf.faults["list_topics"] = [KafkaException(KafkaError(KafkaError._TRANSPORT))] * 2
    deaf.log[0].clear()
    received: list[Message] = []
    for _ in range(2):
        stream.renew([])
        received += stream.fetch(1, MUCH, 0.0)
    received += fetch(stream, 3 - len(received))

    assert [each.data for each in received] == bodies[1:]
    assert lost == [second.delivery]
    assert "made anew" in caplog.text
    wait_until(lambda: deaf.closed, "the one before is closed")
    assert fetch(stream, 0) == []
    assert acknowledge(stream, [second]) == 1


def test_a_fetch_does_not_wait_for_whether_its_client_hears_of_a_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_SECONDS", -1.0)
    monkeypatch.setattr(hearing, "INTERVAL_SECONDS", -1.0)
    client, hanging = FakeConsumer({0: [b"a"]}), Hanging()
    stream = joined(client)
    client.on_ask = hanging
    keeping = threading.Thread(target=stream.renew, args=([],))
    keeping.start()
    hanging.begun.wait(PATIENCE_SECONDS)

    assert [each.data for each in fetch(stream, 1)] == [b"a"]

    assert hanging.hangs, "it was waited for"
    hanging.answers.set()
    keeping.join()

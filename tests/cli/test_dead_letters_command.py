"""`python -m MessageBroker dead-letters`, as a process of its own, on every broker."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from MessageBroker import OutgoingMessage
from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.cloudevents import message_uuid
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    in_order,
    numbered,
    numbers,
    read_dead_letters,
    receive,
    receive_bodies,
    wait_until,
    wait_until_ready,
)
from MessageBroker.dead_letters import Selection, purge
from tests.brokers.harness import BrokerUnderTest
from tests.cli.commands import ROOT, answer, run

# What waits for leases, again and again: on the emulator that is for the soak.
WAITS_FOR_LEASES = pytest.mark.parametrize(
    "running_broker",
    ["local", "kafka", pytest.param("pubsub", marks=pytest.mark.soak)],
    indirect=True,
)


def make_letters(under_test: BrokerUnderTest, count: int = 6) -> tuple[Any, str]:
    """Return a broker and a topic with dead letters: even numbers "odd" by reason, and so on."""
    broker, topic = under_test.connect_with_topic()
    batch = [
        OutgoingMessage(each.data, attributes={"number": each.data.decode()})
        for each in numbered(count)
    ]
    broker.publish_batch(topic, batch)
    with broker.subscribe(topic) as subscription:
        for message in receive(subscription, count):
            parity = "odd" if int(message.data) % 2 else "even"
            assert subscription.dead_letter([message], parity, "of no use") == 1
    return broker, topic


def test_listing_dead_letters_takes_none(under_test: BrokerUnderTest) -> None:
    broker, topic = make_letters(under_test)

    for _ in range(2):
        letters = answer(under_test, "dead-letters", "list", topic)["letters"]
        assert sorted(each["attributes"]["number"] for each in letters) == numbers(6)
        assert {each["reason"] for each in letters} == {"odd", "even"}
        assert {each["error"] for each in letters} == {"of no use"}

    assert in_order(bodies(read_dead_letters(broker, topic, 6))) == numbers(6)


@WAITS_FOR_LEASES
def test_letters_that_a_killed_reader_held_are_there(under_test: BrokerUnderTest) -> None:
    """They come when its lease is over, and no sooner."""
    _, topic = make_letters(under_test)
    worker = under_test.worker()
    worker.call("subscribe", topic=dead_letter_topic(topic))
    assert len(worker.call("receive", count=6)) == 6
    worker.kill()

    letters = answer(under_test, "dead-letters", "list", topic, "--wait", "15.5")["letters"]

    assert sorted(each["attributes"]["number"] for each in letters) == numbers(6)


def test_replaying_by_reason_sends_those_home_and_keeps_the_rest(
    under_test: BrokerUnderTest,
) -> None:
    broker, topic = make_letters(under_test)
    with broker.subscribe(dead_letter_topic(topic)) as looking:
        before = {message.data: message for message in receive(looking, 6)}

    outcome = answer(under_test, "dead-letters", "replay", topic, "--reason", "odd")

    assert outcome["dead_letters"][0] == {
        "topic": dead_letter_topic(topic),
        "replayed": 3,
        "kept": 3,
    }
    replayed = receive(broker.subscribe(topic), 3)
    assert in_order(bodies(replayed)) == ["1", "3", "5"]
    for message in replayed:
        # It had no id, and counted by one that comes from its first message id: it still does.
        first_id = before[message.data].attributes["dead_letter_message_id"]
        assert message.attributes == {
            "number": message.data.decode(),
            f"{broker.cloudevents_prefix}id": message_uuid(under_test.name, topic, first_id),
        }
    kept = read_dead_letters(broker, topic, 3)
    assert in_order(bodies(kept)) == ["0", "2", "4"]
    assert all(message.attributes == before[message.data].attributes for message in kept)


def test_a_letter_is_listed_by_what_it_was_and_found_by_the_id_of_its_result(
    under_test: BrokerUnderTest,
) -> None:
    broker, topic = under_test.connect_with_topic()
    names = ("id", "source", "subject")
    values = ("one", "/camera", "photo\x1b[2J.jpg")
    attributes = {
        broker.cloudevents_prefix + n: value for n, value in zip(names, values, strict=True)
    }
    broker.publish(topic, b"image", attributes=attributes).result()
    with broker.subscribe(topic) as subscription:
        subscription.dead_letter(receive(subscription, 1), "no image")

    listed = run(
        "dead-letters", "list", topic, "--id", "/camera#one", "--wait", "2",
        "--broker", under_test.name, "--config-dir", str(under_test.config_dir),
    )  # fmt: skip

    assert "photo\\x1b[2J.jpg" in listed.stdout
    assert "1 dead letter" in listed.stdout.splitlines()


def test_a_letter_that_was_no_message_is_listed_by_its_own_id(under_test: BrokerUnderTest) -> None:
    broker, topic = under_test.connect_with_topic()
    broker.publish_dead_letter(
        topic, b"torn", reason="corrupt line", error="checksum", attributes={}
    ).result()
    letter = answer(under_test, "dead-letters", "list", topic)["letters"][0]

    listed = run(
        "dead-letters", "list", topic, "--id", letter["id"], "--wait", "2",
        "--broker", under_test.name, "--config-dir", str(under_test.config_dir),
    )  # fmt: skip

    assert (letter["event_id"], letter["message_id"]) == ("", "")
    assert f"  {letter['id']}  " in listed.stdout


def test_replaying_one_by_its_event_id_keeps_that_id(under_test: BrokerUnderTest) -> None:
    broker, topic = under_test.connect_with_topic()
    attributes = [{f"{broker.cloudevents_prefix}id": f"event-{number}"} for number in range(3)]
    broker.publish_batch(topic, [OutgoingMessage(b"image", "k", each) for each in attributes])
    with broker.subscribe(topic) as subscription:
        subscription.dead_letter(receive(subscription, 3), "no image")

    answer(under_test, "dead-letters", "replay", topic, "--id", "event-1")

    (replayed,) = receive(broker.subscribe(topic), 1)
    assert (replayed.data, replayed.key, replayed.attributes) == (b"image", "k", attributes[1])
    assert len(read_dead_letters(broker, topic, 2)) == 2


def test_a_letter_that_fails_again_is_not_replayed_for_ever(under_test: BrokerUnderTest) -> None:
    """The end that stood at the start is the end, though letters arrive while it is read."""
    _, topic = make_letters(under_test)
    worker = under_test.worker()
    worker.call("subscribe", topic=topic)
    worker.send("dead_letter_for_ever", reason="odd")

    outcome = answer(under_test, "dead-letters", "replay", topic, "--reason", "odd")

    assert outcome["dead_letters"][0]["replayed"] == 3
    assert [worker.reply() for _ in range(3)] == ["odd"] * 3


@WAITS_FOR_LEASES
def test_letters_that_come_while_others_are_purged_stay(
    under_test: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, topic = make_letters(under_test)
    purging = under_test.connect()
    counting = purging.backlog

    def count_and_let_more_come(topic_of_letters: str, subscription_id: str) -> int | None:
        count = counting(topic_of_letters, subscription_id)
        if not under_test.counts_backlog:  # there the end is known by a clock, not exactly
            time.sleep(purging.clock_tolerance.total_seconds() + 0.1)
        for _ in range(3):
            broker.publish_dead_letter(topic, b"99", reason="late").result()
        return count

    monkeypatch.setattr(purging, "backlog", count_and_let_more_come)

    outcome = purge(purging, topic, Selection(), patience=2.0)

    assert outcome.selected == 6
    purging.close()
    assert bodies(read_dead_letters(broker, topic, 3)) == ["99"] * 3


# The command, stopped for good in the middle of publishing, or of acknowledging.
REPLAY_UP_TO = """
import itertools, sys, threading
from MessageBroker import dead_letters
from MessageBroker.__main__ import main
from MessageBroker.core.broker import BrokerCore

published = itertools.count(1)
publish, settle = BrokerCore.publish_unchecked, dead_letters._Reader.settle

def stop():
    print("in the middle", flush=True)
    threading.Event().wait()

def publish_some(*arguments):
    if next(published) == 70:
        stop()
    return publish(*arguments)

def settle_some(reader, letters, returned):
    settle(reader, letters[:30], returned)
    stop()

if sys.argv[1] == "publishing":
    BrokerCore.publish_unchecked = publish_some
else:
    dead_letters._Reader.settle = settle_some
main(sys.argv[2:])
"""


@WAITS_FOR_LEASES
@pytest.mark.parametrize("doing", ["publishing", "acknowledging"])
def test_a_replay_that_is_killed_loses_nothing(under_test: BrokerUnderTest, doing: str) -> None:
    broker, topic = make_letters(under_test, 100)
    source = broker.subscribe(topic)
    wait_until_ready(source)
    command = ["dead-letters", "replay", topic, "--reason", "odd", "--wait", "2"]
    command += ["--broker", under_test.name, "--config-dir", str(under_test.config_dir)]
    with subprocess.Popen(
        [sys.executable, "-c", REPLAY_UP_TO, doing, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as replay:
        assert replay.stdout is not None
        assert replay.stdout.readline() == b"in the middle\n"
        replay.kill()

    found: set[str] = set()
    letters = under_test.connect().subscribe(dead_letter_topic(topic))
    wait_until(
        lambda: (
            found.update(bodies(source.receive(50, 0.1)), bodies(letters.receive(200, 0.1))) is None
            and found == set(numbers(100))
        ),
        "each letter is in one of the topics at least",
    )


@WAITS_FOR_LEASES
def test_purging_takes_what_was_named_only(under_test: BrokerUnderTest) -> None:
    broker, topic = make_letters(under_test)

    refused = run(
        *("dead-letters", "purge", topic, "--broker", under_test.name),
        *("--config-dir", str(under_test.config_dir)),
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    answer(under_test, "dead-letters", "purge", topic, "--reason", "even")

    receive_bodies([broker.subscribe(dead_letter_topic(topic))], ["1", "3", "5"])
    answer(under_test, "dead-letters", "purge", topic, "--all")
    assert_nothing_comes(broker.subscribe(dead_letter_topic(topic)))
    assert_nothing_comes(broker.subscribe(topic))


@WAITS_FOR_LEASES
@pytest.mark.parametrize("action", ["replay", "purge"])
@pytest.mark.parametrize("option", ["--id", "--reason"])
def test_letters_that_are_not_there_are_said_not_to_be(
    under_test: BrokerUnderTest, action: str, option: str
) -> None:
    _, topic = make_letters(under_test, 2)

    outcome = run(
        *("dead-letters", action, topic, option, "no-such", "--wait", "2"),
        *("--broker", under_test.name, "--config-dir", str(under_test.config_dir)),
    )

    assert outcome.returncode == 1
    assert "no letter has such an --id or --reason" in outcome.stdout
    assert f"0 {action}" in outcome.stdout

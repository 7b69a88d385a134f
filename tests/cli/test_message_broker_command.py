"""`python -m MessageBroker`, as a process of its own, on every broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
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
from MessageBroker.local_handler import LocalHandler
from tests.brokers.harness import BrokerUnderTest

ROOT = Path(__file__).resolve().parents[2]

# What waits for leases, again and again: on the emulator that is for the soak.
WAITS_FOR_LEASES = pytest.mark.parametrize(
    "running_broker",
    ["local", "kafka", pytest.param("pubsub", marks=pytest.mark.soak)],
    indirect=True,
)


def run(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "MessageBroker", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(under_test: BrokerUnderTest, *arguments: str) -> Any:
    """Run one command on the broker at hand; it must succeed; return what it says in JSON."""
    if arguments[0] == "dead-letters" and "--wait" not in arguments:
        arguments += ("--wait", "2")  # nobody was killed
    outcome = run(
        *arguments,
        "--json",
        "--broker",
        under_test.name,
        "--config-dir",
        str(under_test.config_dir),
    )
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


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


def test_ping_topics_and_backlog_from_creation_to_deletion(under_test: BrokerUnderTest) -> None:
    topic = under_test.unused_name("by-command")

    assert answer(under_test, "ping")["answers"] is True
    created = answer(under_test, "topics", "create", topic)
    again = answer(under_test, "topics", "create", topic)
    assert (created["topics"][0]["created"], again["topics"][0]["created"]) == (True, False)
    assert {topic, dead_letter_topic(topic)} <= set(answer(under_test, "topics", "list")["topics"])

    under_test.connect().publish_batch(topic, numbered(7))
    (row,) = answer(under_test, "backlog", topic)["backlog"]
    assert row["messages"] == (7 if under_test.counts_backlog else None)

    deleted = answer(under_test, "topics", "delete", topic, dead_letter_topic(topic))
    assert [each["deleted"] for each in deleted["topics"]] == [True, True]


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


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("ping", "--broker", "rabbit"), 2, "invalid choice"),
        (("ping", "--timeout", "nan"), 2, "'nan' is not a number of at least 0"),
        (("ping", "--timeout", "-3"), 2, "'-3' is not a number of at least 0"),
        (("ping", "--timeout", "inf"), 2, "'inf' is not a number of at least 0"),
        (("dead-letters", "list", "--wait", "-1"), 2, "'-1' is not a number of at least 0"),
        (("topics",), 2, "ACTION"),
        (("topics", "create", "no"), 2, "not one that every broker takes"),
        (("topics", "delete", "unknown-topic"), 1, "no such topic"),
        (("backlog", "unknown-topic"), 1, "topics create unknown-topic"),
        (("dead-letters", "list", "unknown-topic"), 1, "unknown-topic-dead-letter"),
        (("ping", "--config-dir", "/nowhere"), 2, "--config-dir names the folder /nowhere"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    arguments: tuple[str, ...], exit_code: int, says: str, tmp_path: Path
) -> None:
    environment = {"MESSAGE_BROKER": "local", "LOCAL_BROKER_PATH": str(tmp_path)}

    outcome = run(*arguments, environment=environment)

    said = outcome.stdout + outcome.stderr
    assert (outcome.returncode, says in said) == (exit_code, True), said
    usage = ("usage:", " ")  # its first line, and how it goes on
    assert len([line for line in said.splitlines() if not line.startswith(usage)]) == 1, said


def test_what_can_be_shown_is_shown_and_the_rest_is_named(tmp_path: Path) -> None:
    """Of four topics one is there, as before the first start of the others' scripts."""
    environment = {"MESSAGE_BROKER": "local", "LOCAL_BROKER_PATH": str(tmp_path)}
    assert run("topics", "create", "new_image_topic", environment=environment).returncode == 0

    counted = run("backlog", environment=environment)
    as_json = run("backlog", "--json", environment=environment)
    letters = run("dead-letters", "list", "--wait", "0", environment=environment)

    for outcome in (counted, as_json, letters):
        assert outcome.returncode == 1
        assert "'inference_topic" in outcome.stdout
    assert "new_image_topic (new_image_topic-sub): 0" in counted.stdout
    answer = json.loads(as_json.stdout)
    assert [row["topic"] for row in answer["backlog"]] == [
        "new_image_topic",
        "new_image_topic-dead-letter",
    ]
    assert [row["topic"] for row in answer["failures"]] == [
        "inference_topic",
        "inference_topic-dead-letter",
    ]
    assert "0 dead letters" in letters.stdout


def test_a_person_sees_the_beginning_of_what_is_too_long_and_a_program_all(tmp_path: Path) -> None:
    environment = {"MESSAGE_BROKER": "local", "LOCAL_BROKER_PATH": str(tmp_path)}
    long = "7" * 100_000
    with LocalHandler(tmp_path) as broker:
        broker.create_topic("inference_topic")
        letter = {"dead_letter_message_id": long, "dead_letter_error": long}
        topic = dead_letter_topic("inference_topic")
        broker.publish_unchecked(topic, b"body", None, letter).result()

    shown = run("dead-letters", "list", "inference_topic", environment=environment)
    as_json = run("dead-letters", "list", "inference_topic", "--json", environment=environment)

    assert shown.stdout.count("7… (100,000 characters)") == 2
    assert len(shown.stdout) < 2000
    (told,) = json.loads(as_json.stdout)["letters"]
    assert told["message_id"] == told["error"] == long


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


@pytest.mark.parametrize("broker", ["kafka", "pubsub"])
def test_a_broker_that_is_not_there_is_one_line_within_ten_seconds(broker: str) -> None:
    nowhere = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "GOOGLE_CLOUD_PROJECT": "nowhere",
    }

    outcome = run("ping", "--timeout", "3", "--broker", broker, environment=nowhere)

    assert outcome.returncode == 1
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert "127.0.0.1:1" in outcome.stderr


def test_create_without_names_makes_the_topics_of_the_pipeline(tmp_path: Path) -> None:
    environment = {"MESSAGE_BROKER": "local", "LOCAL_BROKER_PATH": str(tmp_path)}

    assert run("topics", "create", environment=environment).returncode == 0

    listed = run("topics", "list", environment=environment).stdout.split()
    assert listed == [
        "inference_topic",
        "inference_topic-dead-letter",
        "new_image_topic",
        "new_image_topic-dead-letter",
    ]
    counted = run("backlog", environment=environment).stdout.splitlines()
    assert counted[0] == "new_image_topic (new_image_topic-sub): 0"
    assert len(counted) == 4


def test_a_client_library_is_loaded_only_for_its_broker(tmp_path: Path) -> None:
    program = (
        "import sys; from MessageBroker.__main__ import main; main(['topics', 'list']);"
        "print([name for name in sys.modules if name in ('confluent_kafka', 'grpc', 'google')])"
    )
    environment = {"MESSAGE_BROKER": "local", "LOCAL_BROKER_PATH": str(tmp_path)}

    outcome = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )

    assert outcome.stdout.splitlines()[-1] == "[]"

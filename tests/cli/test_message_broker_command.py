"""`python -m MessageBroker`, as a process of its own, on every broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.conformance.stories import (
    numbered,
)
from MessageBroker.local_handler import LocalHandler
from tests.brokers.harness import BrokerUnderTest
from tests.cli.commands import ROOT, answer, run


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
        (("ping", "--config-dir", "/nowhere"), 2, "there is no folder '/nowhere'"),
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

"""Commits that fail in the background, while messages flow: told once, and their end once."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError, TopicPartition

from MessageBroker.kafka import commits
from MessageBroker.kafka.commits import Commits
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KafkaSettings

FAILURE = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE)


@pytest.fixture
def events() -> ClientEvents:
    return ClientEvents(KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {}))


@pytest.fixture
def heard(events: ClientEvents, caplog: pytest.LogCaptureFixture) -> Commits:
    caplog.set_level(logging.INFO)
    return Commits("topic 'images'", events)


def partition(error: KafkaError | None) -> TopicPartition:
    each = TopicPartition("images", 0, 7)
    return each if error is None else RefusedPartition(error)  # type: ignore[return-value]


class RefusedPartition:
    """The client's own cannot be made with an error."""

    def __init__(self, error: KafkaError) -> None:
        self.error = error


@pytest.mark.parametrize(
    ("error", "of_a_partition"), [(FAILURE, None), (None, FAILURE)], ids=["all", "a partition"]
)
def test_commits_that_fail_for_long_are_told_once_and_so_is_their_end(
    error: KafkaError | None,
    of_a_partition: KafkaError | None,
    heard: Commits,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", -1.0)
    for _ in range(3):
        heard.heard(error, [partition(None), partition(of_a_partition)])
    for _ in range(2):
        heard.heard(None, [partition(None)])

    assert [each.levelname for each in caplog.records] == ["ERROR", "INFO"]
    assert "comes again after a restart" in caplog.text


def test_commits_that_fail_for_a_moment_are_no_news(
    heard: Commits, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (FAILURE, FAILURE, None):
        heard.heard(error, [])
    assert not caplog.records


def test_an_outage_is_told_by_others(
    heard: Commits,
    events: ClientEvents,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It counts from its end on, whatever it lasted."""
    heard.heard(FAILURE, [])
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 0.0)
    events.away = True
    heard.heard(FAILURE, [])
    assert not caplog.records
    events.away = False
    heard.heard(FAILURE, [])
    assert [each.levelname for each in caplog.records] == ["ERROR"]

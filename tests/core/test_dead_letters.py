"""Replaying letters that name a home where nobody takes them: anybody may have written them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from MessageBroker import BrokerUnavailableError, TopicNotFoundError, dead_letters
from MessageBroker.conformance.stories import receive_one
from MessageBroker.core import dead_letter as names
from MessageBroker.core.subscription import SubscriptionCore
from MessageBroker.dead_letters import READING, Selection, read_letters, replay
from MessageBroker.local_handler import LocalHandler


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalHandler]:
    with LocalHandler(tmp_path / "broker", READING) as opened:
        opened.create_topic("topic")
        yield opened


def write_letter(broker: LocalHandler, source: str) -> str:
    """Publish a letter that says that it came from `source`."""
    attributes = {names.SOURCE_TOPIC: source, names.REASON: "no image"}
    return broker.publish_unchecked("topic-dead-letter", b"body", None, attributes).result(10)


def test_a_letter_without_a_home_costs_itself(broker: LocalHandler) -> None:
    astray = [write_letter(broker, source) for source in ("no/topic", "was-deleted")]
    write_letter(broker, "topic")

    outcome = replay(broker, "topic", Selection())

    assert outcome.selected == 1
    assert set(outcome.failures) == set(astray)
    assert "names no topic" in outcome.failures[astray[0]]
    assert "there is no topic 'was-deleted'" in outcome.failures[astray[1]]
    with broker.subscribe("topic") as subscription:
        assert receive_one(subscription).data == b"body"
    assert broker.backlog("topic-dead-letter") == 2


def test_a_topic_that_was_deleted_is_told_once_for_all_its_letters(broker: LocalHandler) -> None:
    for _ in range(3):
        write_letter(broker, "was-deleted")
    with pytest.raises(TopicNotFoundError, match="was-deleted"):
        replay(broker, "topic", Selection())
    assert broker.backlog("topic-dead-letter") == 3


def test_a_broker_that_goes_away_while_letters_are_read_is_not_waited_for_without_end(
    broker: LocalHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_letter(broker, "topic")
    monkeypatch.setattr(dead_letters, "AWAY_SECONDS", 0.5)
    monkeypatch.setattr(SubscriptionCore, "ready", False)
    monkeypatch.setattr(SubscriptionCore, "receive", lambda *_arguments: [])

    with pytest.raises(BrokerUnavailableError, match="stays as it is"):
        read_letters(broker, "topic")

"""What clients say in the background, at moments that a cluster does not choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from confluent_kafka import KafkaError

from MessageBroker import AuthenticationError
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.settings import KafkaSettings

SETTINGS = KafkaSettings({"bootstrap.servers": "nowhere:9092"}, {}, {})


def test_the_last_client_alone_is_heard() -> None:
    """One that is being closed tells that it has no broker, and that concerns nobody."""
    told: list[Callable[[KafkaError], None]] = []
    events = ClientEvents(SETTINGS)
    for _ in range(2):
        events.open(lambda properties: told.append(properties["error_cb"]), {})  # type: ignore[arg-type,func-returns-value]
    deaf, other = told

    deaf(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert not events.away
    other(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert events.away


class Refusal:
    """An error during whose look-up the brokers answer another thread."""

    def __init__(self) -> None:
        self.on_look: Callable[[], None] = lambda: None

    def code(self) -> int:
        self.on_look()
        return KafkaError.TOPIC_AUTHORIZATION_FAILED

    def retriable(self) -> bool:
        return False

    def name(self) -> str:
        return "TOPIC_AUTHORIZATION_FAILED"


def test_a_refusal_that_ends_while_it_is_looked_at_is_still_told_whole() -> None:
    events, refusal = ClientEvents(SETTINGS), Refusal()
    events.heard(cast("KafkaError", refusal))
    refusal.on_look = events.answered

    assert isinstance(events.refusal("a consumer"), AuthenticationError)
    assert events.refusal("a consumer") is None


def test_an_error_that_the_client_repeats_is_one_line_until_a_broker_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = ClientEvents(SETTINGS)
    told: list[Callable[[KafkaError], None]] = []
    events.open(lambda properties: told.append(properties["error_cb"]), {})  # type: ignore[arg-type,func-returns-value]
    (hear,) = told
    for _ in range(3):
        hear(KafkaError(KafkaError._FS))
    assert len(caplog.records) == 1

    events.answered()
    hear(KafkaError(KafkaError._FS))
    assert len(caplog.records) == 2

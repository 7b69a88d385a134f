"""The two lines of an outage, however many wait for its end."""

from __future__ import annotations

import logging

import pytest

from MessageBroker.core.outage import Outage
from MessageBroker.errors import BrokerUnavailableError

AWAY = BrokerUnavailableError("no answer from nowhere: start it")
BEGUN = "WARNING no answer from nowhere: start it; waiting for it"
OVER = "INFO the broker is back; all goes on where it was"


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def test_it_is_told_by_the_first_who_waits_and_the_last(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for waiter in ("publisher", "consumer", "publisher"):
        outage.begin(waiter, AWAY)
    outage.end("publisher")
    assert not outage.affects("publisher")
    assert outage.affects("consumer")
    assert lines(caplog) == [BEGUN]

    outage.end("consumer")
    outage.end("consumer")

    assert lines(caplog) == [BEGUN, OVER]


def test_each_outage_is_told(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for _ in range(2):
        outage.begin("publisher", AWAY)
        outage.end("publisher")

    assert lines(caplog) == [BEGUN, OVER] * 2


def test_who_never_waited_has_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    outage.begin("publisher of a locked topic", AWAY)
    outage.end("publisher of another")

    assert lines(caplog) == [BEGUN]


def test_who_is_closed_knows_nothing_of_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    outage.begin("consumer", AWAY)
    outage.leave("consumer")
    assert lines(caplog) == [BEGUN]

    outage.begin("publisher", AWAY)
    outage.end("publisher")

    assert lines(caplog) == [BEGUN, BEGUN, OVER]

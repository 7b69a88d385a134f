"""What only a driver that misbehaves, or a race, can show of the shared core."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future

import pytest

from MessageBroker import Message
from MessageBroker.core import subscription as core
from MessageBroker.core.subscription import SubscriptionCore
from MessageBroker.errors import (
    BrokerUnavailableError,
    ClosedError,
    TopicNotFoundError,
)
from tests.core.streams import DeadLetters, ListStream, message, receive_until, subscription_over
from tests.waiting import wait_until


def test_an_error_of_the_broker_takes_no_redelivered_message_with_it() -> None:
    stream = ListStream()
    with subscription_over(stream) as subscription:
        stream.arrive(message("nacked"))
        subscription.nack(subscription.receive(1, 1), delay=0.0)
        stream.error = TopicNotFoundError("deleted")

        assert receive_until(subscription, 1) == ["nacked"]
        with pytest.raises(TopicNotFoundError):
            subscription.receive(1, 1)


def test_the_stream_is_not_used_after_it_was_closed_while_an_ack_is_under_way() -> None:
    stream = ListStream()
    acking, closing = threading.Event(), threading.Event()
    subscription = subscription_over(stream)
    stream.arrive(message("slow"))
    received = subscription.receive(1, 1)

    def wait_for_the_closing() -> None:
        acking.set()
        closing.wait(5)
        time.sleep(0.1)  # long enough for a close that does not wait to be through

    stream.before_acknowledge = wait_for_the_closing
    thread = threading.Thread(target=subscription.ack, args=(received,))
    thread.start()
    acking.wait(5)
    closing.set()
    subscription.close()
    thread.join()

    assert stream.acknowledged == ["slow"]
    assert stream.used_after_close == []


def test_closing_behind_a_fetch_that_hangs_ends_and_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "CLOSE_SECONDS", 0.1)
    stream = ListStream()
    fetching, answered = threading.Event(), threading.Event()

    def hang(*_: object) -> list[Message]:
        fetching.set()
        answered.wait(30)
        return []

    monkeypatch.setattr(stream, "fetch", hang)
    subscription = subscription_over(stream)
    outcome = Future[list[Message]]()
    receiving = threading.Thread(target=lambda: outcome.set_result(receive_closed(subscription)))
    receiving.start()
    fetching.wait(5)

    subscription.close()

    assert not answered.is_set()
    assert "not given back within 0.1 s" in caplog.text
    answered.set()
    assert outcome.result(10) == []
    wait_until(lambda: stream.closed, "the stream is closed all the same", 10)
    assert stream.used_after_close == []
    receiving.join()


def receive_closed(subscription: SubscriptionCore) -> list[Message]:
    with pytest.raises(ClosedError):
        return subscription.receive(1, 60)
    return []


def test_what_a_close_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ListStream()
    subscription = subscription_over(stream)

    def fail(_deliveries: object) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr(stream, "close", fail)
    with pytest.raises(AssertionError, match="a defect"):
        subscription.close()


def test_what_cannot_become_a_dead_letter_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.refusing = BrokerUnavailableError("away for now")
    with subscription_over(stream, letters, max_delivery_attempts=1) as subscription:
        stream.arrive(message("exhausted"), message("moved"))
        exhausted, moved = subscription.receive(10, 1)

        subscription.nack([exhausted])
        assert subscription.dead_letter([moved], "no image") == 0

        assert sorted(receive_until(subscription, 2)) == ["exhausted", "moved"]
        assert stream.acknowledged == []
        assert caplog.text.count("away for now") == 2


def test_a_message_comes_again_when_its_moving_was_interrupted() -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.refusing = KeyboardInterrupt()  # while the broker is away, say
    with subscription_over(stream, letters) as subscription:
        stream.arrive(message("moved"))
        moved = subscription.receive(1, 1)

        with pytest.raises(KeyboardInterrupt):
            subscription.dead_letter(moved, "no image")

        assert receive_until(subscription, 1) == ["moved"]
        assert stream.acknowledged == []


def test_a_message_is_not_handed_out_while_it_becomes_a_dead_letter() -> None:
    stream, letters = ListStream(), DeadLetters()
    with subscription_over(stream, letters) as subscription:
        stream.arrive(message("held"))
        (held,) = subscription.receive(1, 1)
        subscription.nack([held], delay=0.0)

        assert subscription.dead_letter([held], "no image") == 1

        assert subscription.receive(1, 0.2) == []
        assert (letters.bodies, stream.acknowledged) == (["held"], ["held"])


def test_a_stream_that_cannot_give_back_is_still_closed(caplog: pytest.LogCaptureFixture) -> None:
    stream = ListStream()
    stream.close = lambda deliveries: away()  # type: ignore[method-assign]

    def away() -> None:
        raise TopicNotFoundError("the topic was deleted")

    with subscription_over(stream) as subscription:
        pass

    assert not subscription.ready
    assert caplog.text.count("the topic was deleted") == 1


def test_acks_of_an_outage_are_sent_afterwards() -> None:
    stream = ListStream()
    with subscription_over(stream) as subscription:
        stream.arrive(message("one"))
        stream.before_acknowledge = away
        subscription.ack(subscription.receive(1, 1))
        assert stream.acknowledged == []

        stream.before_acknowledge = lambda: None

        wait_until(lambda: stream.acknowledged == ["one"], "it is acknowledged")


def away() -> None:
    raise BrokerUnavailableError("away")


def test_what_could_not_be_given_back_in_an_outage_is_given_back_afterwards() -> None:
    stream = ListStream()
    with subscription_over(stream, max_lease_seconds=0.1) as subscription:
        tried = threading.Event()

        def refuse() -> None:
            tried.set()
            away()

        stream.before_release = refuse
        stream.arrive(message("kept too long"))
        subscription.receive(1, 1)
        assert tried.wait(10)
        assert stream.given_back == []

        stream.before_release = lambda: None

        wait_until(lambda: stream.given_back == ["kept too long"], "it is given back")


def test_what_could_not_be_given_back_before_the_end_is_given_back_by_the_end() -> None:
    stream = ListStream()
    stream.renew_interval = 600  # the keeper has no turn any more
    subscription = subscription_over(stream)
    fetching, closing = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    stream.before_release = away
    fetch = stream.fetch

    def fetch_while_it_is_closed(*arguments: float) -> list[Message]:
        fetching.set()
        closing.wait(10)
        return fetch(*arguments)  # type: ignore[arg-type]

    def receive() -> None:
        try:
            subscription.receive(1, 5)
        except BaseException as error:
            errors.append(error)

    stream.fetch = fetch_while_it_is_closed  # type: ignore[method-assign,assignment]
    stream.arrive(message("fetched too late"))
    receiving = threading.Thread(target=receive)
    receiving.start()
    assert fetching.wait(10)
    ending = threading.Thread(target=subscription.close)
    ending.start()
    wait_until(lambda: subscription._closed.is_set(), "it is being closed")
    closing.set()
    receiving.join()
    ending.join()

    assert [type(error) for error in errors] == [ClosedError]
    assert stream.given_back == ["fetched too late"]


def test_attempts_are_remembered_for_what_comes_again() -> None:
    stream = ListStream()
    with subscription_over(stream) as subscription:
        first = message("one")
        stream.arrive(first)
        subscription.nack(subscription.receive(1, 1))
        stream.on_lost([first.delivery])
        stream.arrive(message("one"))

        (again,) = subscription.receive(1, 5)

        assert again.delivery_attempt == 2


def test_what_is_lost_while_it_waits_is_not_handed_out() -> None:
    stream = ListStream()
    with subscription_over(stream) as subscription:
        stream.arrive(message("one", key="k"), message("two", key="k"))
        one, two = subscription.receive(10, 1)
        subscription.nack([one, two], delay=0.0)

        stream.on_lost([one.delivery])

        assert receive_until(subscription, 1) == ["two"]
        subscription.ack([one])
        assert subscription.late_acks == 1


def test_an_application_at_work_is_told_that_the_broker_is_away_and_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stream = ListStream()
    away: list[BrokerUnavailableError] = [BrokerUnavailableError("no answer")]

    def renew(_deliveries: object) -> None:
        if away:
            raise away[0]

    stream.renew = renew  # type: ignore[method-assign]
    with subscription_over(stream) as subscription:
        wait_until(lambda: not subscription.ready, "nobody has received anything")
        away.clear()
        wait_until(lambda: subscription.ready, "it is back")
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]


def test_a_defect_in_one_renewal_does_not_end_all_others(caplog: pytest.LogCaptureFixture) -> None:
    stream = ListStream()
    renewals: list[object] = []

    def renew(deliveries: object) -> None:
        renewals.append(deliveries)
        if len(renewals) == 1:
            raise RuntimeError("out of its wits")

    stream.renew = renew  # type: ignore[method-assign,assignment]
    with subscription_over(stream):
        wait_until(lambda: len(renewals) > 2, "it is renewed again")

    assert [record.levelname for record in caplog.records] == ["ERROR"]

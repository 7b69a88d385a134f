"""What a dead-letter topic that refuses, or is away, costs a consumer."""

from __future__ import annotations

import hashlib

import pytest

from MessageBroker.core import letters as letters_module
from MessageBroker.core.dead_letter import dead_letter_attributes, without_body
from MessageBroker.core.subscription import SubscriptionCore
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.limits import MAX_ATTRIBUTE_VALUE_BYTES, MAX_ATTRIBUTES
from tests.core.streams import DeadLetters, ListStream, message, receive_until, subscription_over
from tests.waiting import wait_until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "PATIENCE_SECONDS", 0.05)


@pytest.mark.parametrize(
    "refusal",
    [
        AuthenticationError("no right"),
        TopicNotFoundError("deleted"),
        MessageTooLargeError("in every form"),
        PublishError("whatever it is"),
    ],
)
def test_a_dead_letter_topic_that_refuses_for_good_is_told_and_nothing_is_lost(
    refusal: BrokerError,
) -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.refusing = refusal
    with subscription_over(stream, letters, max_delivery_attempts=1) as subscription:
        stream.arrive(message("bad"), message("exhausted"))
        bad, exhausted = subscription.receive(2, 1)

        with pytest.raises(type(refusal)):
            subscription.dead_letter([bad], "no image")
        with pytest.raises(type(refusal)):
            subscription.nack([exhausted])

        assert sorted(receive_until(subscription, 2)) == ["bad", "exhausted"]
        assert stream.acknowledged == []


@pytest.mark.usefixtures("impatient")
def test_letters_that_wait_have_room_of_their_own_and_good_messages_flow() -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.away = True
    with subscription_over(stream, letters, max_outstanding_messages=10) as subscription:
        stream.arrive(*(message(f"bad {number}") for number in range(9)))
        assert subscription.dead_letter(subscription.receive(9, 1), "no image") == 0
        assert (subscription.letters_waiting, subscription.dead_lettered) == (9, 0)

        stream.arrive(*(message(f"good {number}") for number in range(30)))
        for _ in range(3):
            good = subscription.receive(100, 1)
            assert len(good) == 10
            subscription.ack(good)

        # Beyond its own room nothing comes ...
        stream.arrive(message("one more bad"))
        subscription.dead_letter(subscription.receive(1, 1), "no image")
        stream.arrive(message("later"))
        assert subscription.receive(10, 0.3) == []

        # ... until the topic is back. Each has one letter only, and is acknowledged.
        assert len(letters.waiting) == 10
        for future in letters.waiting:
            future.set_result("id")
        assert receive_until(subscription, 1) == ["later"]
        wait_until(lambda: len(stream.acknowledged) == 40, "all are acknowledged", 5)
        assert (subscription.letters_waiting, subscription.dead_lettered) == (0, 10)


@pytest.mark.usefixtures("impatient")
def test_a_refusal_that_comes_late_is_raised_by_the_next_call() -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.away = True
    with subscription_over(stream, letters) as subscription:
        stream.arrive(message("bad"))
        subscription.dead_letter(subscription.receive(1, 1), "no image")
        letters.waiting[0].set_exception(AuthenticationError("revoked"))

        with pytest.raises(AuthenticationError):
            receive_until(subscription, 1)

        assert receive_until(subscription, 1) == ["bad"]


@pytest.mark.usefixtures("impatient")
def test_the_lease_of_a_message_whose_letter_waits_does_not_end() -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.away = True
    with subscription_over(stream, letters, max_lease_seconds=0.2) as subscription:
        stream.arrive(message("bad"), message("slow"))
        bad, _ = subscription.receive(2, 1)
        subscription.dead_letter([bad], "no image")

        wait_until(lambda: subscription.overdue == 1, "the other one's ends", 5)
        assert stream.given_back == ["slow"]


def test_the_dead_letter_of_a_lost_message_is_not_dropped_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = ListStream()
    with subscription_over(stream, max_lease_seconds=0.1) as subscription:
        stream.arrive(message("slow"))
        slow = subscription.receive(1, 1)
        wait_until(lambda: subscription.overdue == 1, "it is given back", 5)

        assert subscription.dead_letter(slow, "no image") == 0

        assert "were not dead-lettered" in caplog.text


def test_a_letter_without_its_body_fits_every_topic() -> None:
    original = {f"name-{number:03}": "ä" * 5000 for number in range(200)}
    original |= {"n" * 300: "v", "ce_id": "7", "dead_letter_place": "forged"}
    letter = dead_letter_attributes(
        original, topic="topic", message_id="1", attempts=1, reason="r", error="e"
    )

    fitting = without_body(letter, "topic/0/17", b"body")

    own = {name: value for name, value in fitting.items() if not name.startswith("dead_letter_")}
    assert len(own) == MAX_ATTRIBUTES
    assert own["ce_id"] == "7"
    assert all(len(value.encode()) <= MAX_ATTRIBUTE_VALUE_BYTES for value in own.values())
    assert fitting["dead_letter_body"] == "absent"
    assert fitting["dead_letter_place"] == "topic/0/17"
    assert fitting["dead_letter_bytes"] == "4"
    assert fitting["dead_letter_sha256"] == hashlib.sha256(b"body").hexdigest()
    assert "dead_letter_bytes" not in without_body(letter, "topic/0/17", None)


def test_what_cannot_be_read_is_moved_away_in_one_line_and_its_neighbours_flow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, letters = ListStream(), DeadLetters()
    with subscription_over(stream, letters) as subscription:
        unread = [message(blanks) for blanks in ("", " ", "  ")]
        for each in unread:
            subscription._stream.on_unread(each, "damaged")
        stream.arrive(message("before"), *unread, message("after"))

        assert receive_until(subscription, 2) == ["before", "after"]

        wait_until(lambda: len(stream.acknowledged) == 3, "they are acknowledged", 5)
        assert letters.bodies == ["", "", ""]
        assert subscription.dead_lettered == 3
        assert caplog.text.count("cannot be read") == 1
        assert "3 records" in caplog.text


def let_a_letter_wait(subscription: SubscriptionCore, stream: ListStream) -> None:
    """Receive what cannot be read, while the dead-letter topic is away."""
    unread = message("unread")
    stream.on_unread(unread, "damaged")
    stream.arrive(unread)
    assert subscription.receive(1, 0.1) == []
    assert subscription.letters_waiting == 1


def test_a_receive_keeps_its_time_where_what_cannot_be_read_has_to_wait(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.away = True
    with subscription_over(stream, letters) as subscription:
        let_a_letter_wait(subscription, stream)

        assert letters_module.PATIENCE_SECONDS > 1, "it would have been waited for so long"
        assert not caplog.messages
        monkeypatch.setattr(letters_module, "PATIENCE_SECONDS", 0.05)
        wait_until(lambda: "has not taken them" in caplog.text, "it is told later", 5)

        letters.waiting[0].set_result("id")

        wait_until(lambda: subscription.dead_lettered == 1, "it is moved", 5)
        wait_until(lambda: "cannot be read were dead-lettered" in caplog.text, "it is told", 5)


def test_closing_waits_for_letters_that_are_about_to_be_confirmed() -> None:
    stream, letters = ListStream(), DeadLetters()
    letters.away = True
    with subscription_over(stream, letters) as subscription:
        let_a_letter_wait(subscription, stream)

        ending = subscription.begin_to_close()
        assert stream.acknowledged == []
        letters.waiting[0].set_result("id")
        subscription.await_closed(ending, 10)

    assert stream.acknowledged == ["unread"]

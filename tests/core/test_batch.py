"""A batch on its way: each message is settled once, and then all are."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from MessageBroker import OutgoingMessage
from MessageBroker.core.driver import Batch, confirm_all
from MessageBroker.errors import BrokerError, PublishError

# The number of a message, and whether it is confirmed or fails.
settlements = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20)


def new_batch(size: int, settled: list[str]) -> Batch:
    messages = [OutgoingMessage(str(number).encode()) for number in range(size)]
    return Batch("topic", messages, [1] * size, lambda: settled.append("all"))


@given(settlements)
def test_the_first_settlement_of_each_counts_and_the_last_is_told_once(
    history: list[tuple[int, bool]],
) -> None:
    told: list[str] = []
    batch = new_batch(5, told)
    first: dict[int, str | PublishError] = {}
    for step, (number, confirmed) in enumerate(history):
        outcome = f"id {step}" if confirmed else PublishError(f"step {step}")
        if isinstance(outcome, str):
            batch.confirm(number, outcome)
        else:
            batch.fail(number, outcome)
        first.setdefault(number, outcome)
        assert told == (["all"] if len(first) == 5 else [])

    assert batch.errors == {n: each for n, each in first.items() if not isinstance(each, str)}
    confirmed = {n: each for n, each in first.items() if isinstance(each, str)}
    assert batch.ids == [confirmed.get(number, "") for number in range(5)]


def test_those_that_are_confirmed_together_are_settled_once_too() -> None:
    told: list[str] = []
    batch = new_batch(4, told)
    batch.fail(2, PublishError("refused"))
    first, *others = batch.publications()
    confirm_all([first], ["a"])
    assert told == []

    confirm_all([first, *others], ["never", "b", "never", "d"])
    confirm_all(others, ["never"] * 3)

    assert batch.ids == ["a", "b", "", "d"]
    assert set(batch.errors) == {2}
    assert told == ["all"]


def test_messages_of_several_batches_are_confirmed_together() -> None:
    told: list[str] = []
    batches = [new_batch(1, told), new_batch(2, told)]

    confirm_all([each for batch in batches for each in batch.publications()], ["a", "b", "c"])

    assert [batch.ids for batch in batches] == [["a"], ["b", "c"]]
    assert told == ["all", "all"]


def test_what_is_not_settled_fails_and_nothing_else() -> None:
    told: list[str] = []
    batch = new_batch(4, told)
    batch.confirm(1, "id")
    error = PublishError("closed")
    batch.fail_rest(error, 2)
    assert told == []

    batch.fail_rest(error)

    assert batch.ids == ["", "id", "", ""]
    assert batch.errors == dict.fromkeys((0, 2, 3), error)
    assert told == ["all"]


def test_a_handle_settles_its_message() -> None:
    told: list[str] = []
    batch = Batch(
        "topic",
        [OutgoingMessage(b"a", "key", {"name": "value"}), OutgoingMessage(b"b", "")],
        [13, 1],
        lambda: told.append("all"),
    )
    first, second = batch.publications()
    assert (first.topic, first.data, first.key, first.attributes) == (
        "topic",
        b"a",
        "key",
        {"name": "value"},
    )
    assert (second.key, second.attributes) == (None, {})

    second.confirm("id")
    first.fail(PublishError("refused"))

    assert batch.ids == ["", "id"]
    assert list(batch.errors) == [0]
    assert told == ["all"]


def test_what_fails_just_when_it_is_confirmed_is_one_of_both() -> None:
    """A close fails the rest while an answer still comes: no message is both."""
    batch = new_batch(1, [])

    class Meddling(dict[int, BrokerError]):
        """Lets another thread confirm the message when its error is noted."""

        def __setitem__(self, number: int, error: BrokerError) -> None:
            answer = threading.Thread(target=batch.confirm, args=(number, "id"), daemon=True)
            answer.start()
            answer.join(0.2)
            super().__setitem__(number, error)

    batch.errors = Meddling()

    batch.fail_rest(PublishError("closed"))

    assert (batch.ids == [""]) == (0 in batch.errors)

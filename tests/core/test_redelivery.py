"""The waiting room of nacked messages, against a model that anybody can check by eye."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from MessageBroker import Message
from MessageBroker.core.redelivery import Redelivery
from MessageBroker.message import IN_HAND, SETTLED, DeliveryState
from tests.core.streams import message

KEYS = st.sampled_from([None, "a", "b"])
DELAYS = st.integers(min_value=0, max_value=5)


@dataclass
class Waiting:
    """One held message in the model."""

    sequence: int
    key: str | None
    due: float
    out: bool = False


class Model:
    """A list, searched from end to end each time."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []

    def find(self, sequence: int) -> Waiting | None:
        return next((each for each in self.waiting if each.sequence == sequence), None)

    def hold(self, sequence: int, key: str | None, due: float) -> None:
        found = self.find(sequence)
        if found is None:
            self.waiting.append(Waiting(sequence, key, due))
        else:
            found.due, found.out = due, False

    def remove(self, sequence: int) -> None:
        self.waiting = [each for each in self.waiting if each.sequence != sequence]

    def is_first_of_its_key(self, one: Waiting) -> bool:
        return one.key is None or not any(
            each.key == one.key and each.sequence < one.sequence for each in self.waiting
        )

    def take_due(self, limit: int, now: float) -> list[int]:
        ready = [
            each
            for each in self.waiting
            if not each.out and each.due <= now and self.is_first_of_its_key(each)
        ]
        taken = sorted(ready, key=lambda each: (each.due, each.sequence))[:limit]
        for each in taken:
            each.out = True
        return [each.sequence for each in taken]


class RedeliveryAgainstTheModel(RuleBasedStateMachine):
    """Any sequence of arrivals, nacks, settlements and time gives the same messages."""

    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.redelivery = Redelivery()
        self.model = Model()
        self.now = 0.0
        self.arrived = 0

    @rule(target=deliveries, key=KEYS)
    def arrive(self, key: str | None) -> Message:
        """As the core does it: what must wait behind its key is held at once."""
        self.arrived += 1
        new = message(str(self.arrived), key)
        new.delivery.sequence = self.arrived
        must_wait = self.redelivery.holds_back(key)
        assert must_wait == (
            key is not None and any(each.key == key for each in self.model.waiting)
        )
        if must_wait:
            self.redelivery.hold(new, due=0.0)
            self.model.hold(self.arrived, key, 0.0)
        return new

    @rule(one=deliveries, delay=DELAYS)
    def nack(self, one: Message, delay: int) -> None:
        if one.delivery.state in IN_HAND:
            self.redelivery.hold(one, due=self.now + delay)
            self.model.hold(one.delivery.sequence, one.key, self.now + delay)

    @rule(one=deliveries)
    def settle(self, one: Message) -> None:
        self.redelivery.remove(one.delivery)
        one.delivery.state = DeliveryState.DONE
        self.model.remove(one.delivery.sequence)

    @rule(one=deliveries)
    def begin_moving(self, one: Message) -> None:
        """On its way to the dead letters it keeps its place, and is not handed out."""
        if one.delivery.state not in SETTLED:
            one.delivery.state = DeliveryState.MOVING
            waiting = self.model.find(one.delivery.sequence)
            if waiting is not None:
                waiting.out = True

    @rule(one=deliveries, delay=DELAYS)
    def could_not_move(self, one: Message, delay: int) -> None:
        if one.delivery.state is DeliveryState.MOVING:
            self.redelivery.hold(one, due=self.now + delay)
            self.model.hold(one.delivery.sequence, one.key, self.now + delay)

    @rule(target=deliveries, limit=st.integers(min_value=1, max_value=3), passed=DELAYS)
    def take(self, limit: int, passed: int):
        self.now += passed
        taken = self.redelivery.take_due(limit, self.now)
        assert [each.delivery.sequence for each in taken] == self.model.take_due(limit, self.now)
        return multiple()

    @rule(one=deliveries)
    def a_message_that_was_never_held_is_out_for_the_first_time(self, one: Message) -> None:
        """So that the core can settle it without a look at what waits."""
        never_held = self.model.find(one.delivery.sequence) is None
        assert never_held or one.delivery.state is not DeliveryState.OUT

    @invariant()
    def nothing_that_is_due_is_overlooked(self) -> None:
        heads = [
            each.due
            for each in self.model.waiting
            if not each.out and self.model.is_first_of_its_key(each)
        ]
        # Too early is fine (a receive finds nothing), too late is not.
        assert self.redelivery.next_due() <= min(heads, default=float("inf"))


TestRedelivery = RedeliveryAgainstTheModel.TestCase
TestRedelivery.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

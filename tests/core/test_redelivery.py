"""The waiting room of nacked messages, against a model that anybody can check by eye."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from MessageBroker import Message
from MessageBroker.core.redelivery import Redelivery
from MessageBroker.message import DeliveryState
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
        new._delivery.sequence = self.arrived
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
        if one._delivery.state is DeliveryState.OUT:
            self.redelivery.hold(one, due=self.now + delay)
            self.model.hold(one._delivery.sequence, one.key, self.now + delay)

    @rule(one=deliveries)
    def settle(self, one: Message) -> None:
        self.redelivery.remove(one._delivery)
        one._delivery.state = DeliveryState.DONE
        self.model.remove(one._delivery.sequence)

    @rule(one=deliveries)
    def withhold(self, one: Message) -> None:
        if one._delivery.state is DeliveryState.HELD:
            self.redelivery.withhold(one._delivery)
            one._delivery.state = DeliveryState.OUT
            waiting = self.model.find(one._delivery.sequence)
            assert waiting is not None
            waiting.out = True

    @rule(target=deliveries, limit=st.integers(min_value=1, max_value=3), passed=DELAYS)
    def take(self, limit: int, passed: int):
        self.now += passed
        taken = self.redelivery.take_due(limit, self.now)
        assert [each._delivery.sequence for each in taken] == self.model.take_due(limit, self.now)
        return multiple()

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

"""What a consumer was handed and has not settled yet.

The loops here run for every message: what they look up, they look up once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from MessageBroker.core.redelivery import Redelivery
from MessageBroker.message import SETTLED, Delivery, DeliveryState, Message

OUT, DONE, LOST = DeliveryState.OUT, DeliveryState.DONE, DeliveryState.LOST
MOVING = DeliveryState.MOVING


class Outstanding:
    """The unsettled deliveries of one subscription, in order of arrival. The caller holds a lock.

    Attributes:
        size: bytes of their data.
        subscription_id: whose they are.
        lease_seconds: they are `overdue` after so long.
    """

    def __init__(self, subscription_id: str, redelivery: Redelivery, lease_seconds: float) -> None:
        """Begin with none.

        Args:
            subscription_id: whose they are.
            redelivery: holds those of them that wait; it is told of those that are settled.
            lease_seconds: they are `overdue` after so long.
        """
        self.size = 0
        self.subscription_id = subscription_id
        self.lease_seconds = lease_seconds
        self._redelivery = redelivery
        self._deliveries: dict[Delivery, None] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._deliveries)

    def add(self, messages: Sequence[Message]) -> list[Message]:
        """Take over messages with new deliveries; return those that were not lost meanwhile.

        Args:
            messages: in order of arrival.
        """
        added: list[Message] = []
        deadline = time.monotonic() + self.lease_seconds
        deliveries, sequence, size = self._deliveries, self._sequence, 0
        for message in messages:
            delivery = message.delivery
            if delivery.state is LOST:  # revoked while it was being fetched
                continue
            sequence += 1
            delivery.sequence = sequence
            delivery.deadline = deadline
            deliveries[delivery] = None
            size += delivery.size
            added.append(message)
        self._sequence = sequence
        self.size += size
        return added

    def require(self, messages: Iterable[Message]) -> list[Message]:
        """Return the messages as a list; refuse what was not handed out here.

        Raises:
            TypeError: not all of them are messages.
            ValueError: some are of another subscription, and not settled either.
        """
        ours = self._deliveries
        try:
            messages = list(messages)
            strangers = [
                each
                for each in messages
                if each.delivery not in ours and each.delivery.state not in SETTLED
            ]
        except (AttributeError, TypeError):
            raise TypeError("expected a sequence of messages that were received") from None
        if strangers:
            raise ValueError(
                f"{len(strangers)} of {len(messages)} messages were not received by "
                f"{self.subscription_id!r}: settle each with the subscription that received it"
            )
        return messages

    def settle(self, messages: Sequence[Message]) -> tuple[list[Delivery], int]:
        """Mark messages as done; return what was not settled yet, and how many were lost.

        Args:
            messages: ours, see `require`.
        """
        settled: list[Delivery] = []
        late = size = 0
        ours = self._deliveries
        for message in messages:
            delivery = message.delivery
            state = delivery.state
            if state is OUT:  # nearly always
                del ours[delivery]
                size += delivery.size
                delivery.state = DONE
                settled.append(delivery)
            elif state is LOST:
                late += 1
            elif state is not DONE:
                self._forget(delivery, DONE)
                settled.append(delivery)
        self.size -= size
        return settled, late

    def lose(self, deliveries: Sequence[Delivery]) -> None:
        """Mark deliveries as lost, but for those that are done."""
        for delivery in deliveries:
            if delivery.state is not DONE:
                self._forget(delivery, LOST)

    def overdue(self) -> list[Delivery]:
        """List those whose `lease_seconds` are over."""
        now = time.monotonic()
        overdue: list[Delivery] = []
        for delivery in self._deliveries:  # in order of arrival, hence of deadline
            if delivery.deadline > now:
                break
            if delivery.state is not MOVING:  # its letter waits; others would only write another
                overdue.append(delivery)
        return overdue

    def _forget(self, delivery: Delivery, state: DeliveryState) -> None:
        assert delivery.state is not DONE, "a delivery is settled once"
        if delivery in self._deliveries:
            del self._deliveries[delivery]
            self.size -= delivery.size
        self._redelivery.remove(delivery)
        delivery.state = state

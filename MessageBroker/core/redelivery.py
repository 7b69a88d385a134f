"""Messages that wait in the process to be handed out again.

Kafka can only rewind a whole partition, and Pub/Sub replays the ordered neighbours of a nacked
message. So a nacked message goes back to neither: it waits here, its lease kept, until its
back-off is over. Messages of its key that come after it wait behind it, so that their order holds;
all others pass.
"""

from __future__ import annotations

import bisect
import heapq
from dataclasses import dataclass

from MessageBroker.message import SETTLED, Delivery, DeliveryState, Message


@dataclass(eq=False)
class _Held:
    """A message in a lane: it waits (HELD), or is out or on its way and not settled yet."""

    message: Message
    due: float  # monotonic seconds; 0 for one that only waits behind another
    lane: list[_Held]  # the held messages of its key, in order of arrival; only the first may go

    @property
    def sequence(self) -> int:
        return self.message.delivery.sequence

    @property
    def is_waiting_head(self) -> bool:
        return self.message.delivery.state is DeliveryState.HELD and self.lane[0] is self


class Redelivery:
    """All held messages of one subscription. The caller holds a lock."""

    def __init__(self) -> None:
        self._held: dict[Delivery, _Held] = {}
        self._lanes: dict[str, list[_Held]] = {}  # by key; without a key each has one to itself
        self._due: list[tuple[float, int, _Held]] = []  # heap of lane heads; may hold stale ones

    def __bool__(self) -> bool:
        """Tell whether any key waits."""
        return bool(self._lanes)

    def holds_back(self, key: str | None) -> bool:
        """Tell whether a new message of `key` has to wait behind a nacked one."""
        return key is not None and key in self._lanes

    def hold(self, message: Message, due: float) -> None:
        """Keep `message` until `due` (monotonic seconds) and until it is first of its key."""
        delivery = message.delivery
        assert delivery.state not in SETTLED, "a settled delivery is never handed out again"
        held = self._held.get(delivery)
        if held is None:
            lane = [] if message.key is None else self._lanes.setdefault(message.key, [])
            held = self._held[delivery] = _Held(message, due, lane)
            bisect.insort(lane, held, key=lambda each: each.sequence)
        held.message, held.due = message, due
        delivery.state = DeliveryState.HELD
        self._schedule_head(held.lane)

    def take_due(self, limit: int, now: float) -> list[Message]:
        """Hand out again up to `limit` messages whose time has come."""
        taken: list[Message] = []
        while len(taken) < limit and self._due and self._due[0][0] <= now:
            due, _, held = heapq.heappop(self._due)
            if held.due == due and held.is_waiting_head:
                held.message.delivery.state = DeliveryState.AGAIN
                taken.append(held.message)
        return taken

    def next_due(self) -> float:
        """Monotonic time at which the next message may be due; infinity if none waits."""
        return self._due[0][0] if self._due else float("inf")

    def remove(self, delivery: Delivery) -> None:
        """Forget a delivery that was settled or lost, and let the next of its key go."""
        held = self._held.pop(delivery, None)
        if held is None:
            return
        held.lane.remove(held)
        if held.lane:
            self._schedule_head(held.lane)
        elif held.message.key is not None:
            del self._lanes[held.message.key]

    def _schedule_head(self, lane: list[_Held]) -> None:
        head = lane[0]
        if head.is_waiting_head:
            heapq.heappush(self._due, (head.due, head.sequence, head))

"""Messages that wait in the process to be handed out again.

Kafka can only rewind a whole partition, and Pub/Sub replays the ordered neighbours of a nacked
message. So a nacked message goes back to neither: it waits here, its lease kept, until its
back-off is over. Messages of its key that come after it wait behind it, so that their order holds;
all others pass.
"""

from __future__ import annotations

import bisect
import heapq
from dataclasses import dataclass, field

from MessageBroker.message import Delivery, DeliveryState, Message


@dataclass
class _Held:
    """A message in a lane: waiting, or handed out again and not yet settled."""

    message: Message
    due: float  # monotonic seconds; 0 for one that only waits behind another
    out: bool = False

    @property
    def sequence(self) -> int:
        return self.message._delivery.sequence


@dataclass
class Lane:
    """The held messages of one key, in order of arrival. Only the first may be handed out."""

    key: str | None
    held: list[_Held] = field(default_factory=list)

    def find(self, delivery: Delivery) -> _Held | None:
        """Return the entry of `delivery`, if it is here."""
        return next((each for each in self.held if each.message._delivery is delivery), None)


class Redelivery:
    """All held messages of one subscription. The caller holds a lock."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}  # by key; a message without a key has a lane to itself
        self._due: list[tuple[float, int, _Held]] = []  # heap of lane heads; may hold stale ones

    def __bool__(self) -> bool:
        """Tell whether any key waits."""
        return bool(self._lanes)

    def holds_back(self, key: str | None) -> bool:
        """Tell whether a new message of `key` has to wait behind a nacked one."""
        return key is not None and key in self._lanes

    def hold(self, message: Message, due: float) -> None:
        """Keep `message` until `due` (monotonic seconds) and until it is first of its key."""
        delivery = message._delivery
        lane = delivery.lane or self._lane(message.key)
        held = lane.find(delivery)
        if held is None:
            held = _Held(message, due)
            bisect.insort(lane.held, held, key=lambda each: each.sequence)
        held.message, held.due, held.out = message, due, False
        delivery.lane = lane
        delivery.state = DeliveryState.HELD
        self._schedule_head(lane)

    def withhold(self, delivery: Delivery) -> None:
        """Do not hand out a held message by itself any more; `hold` and `remove` still apply."""
        held = delivery.lane.find(delivery) if delivery.lane is not None else None
        if held is not None:
            held.out = True

    def take_due(self, limit: int, now: float) -> list[Message]:
        """Hand out again up to `limit` messages whose time has come."""
        taken: list[Message] = []
        while len(taken) < limit and self._due and self._due[0][0] <= now:
            due, _, held = heapq.heappop(self._due)
            if self._is_waiting_head(held) and held.due == due:
                held.out = True
                held.message._delivery.state = DeliveryState.OUT
                taken.append(held.message)
        return taken

    def next_due(self) -> float:
        """Monotonic time at which the next message may be due; infinity if none waits."""
        return self._due[0][0] if self._due else float("inf")

    def remove(self, delivery: Delivery) -> None:
        """Forget a delivery that was settled or lost, and let the next of its key go."""
        lane = delivery.lane
        if lane is None:
            return
        delivery.lane = None
        lane.held = [each for each in lane.held if each.message._delivery is not delivery]
        if lane.held:
            self._schedule_head(lane)
        elif lane.key is not None:
            self._lanes.pop(lane.key, None)

    def _lane(self, key: str | None) -> Lane:
        return Lane(None) if key is None else self._lanes.setdefault(key, Lane(key))

    def _schedule_head(self, lane: Lane) -> None:
        head = lane.held[0]
        if not head.out:
            heapq.heappush(self._due, (head.due, head.sequence, head))

    @staticmethod
    def _is_waiting_head(held: _Held) -> bool:
        lane = held.message._delivery.lane
        return lane is not None and not held.out and lane.held[0] is held

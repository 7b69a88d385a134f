"""Publications that wait for the broker: bounded, in order, and through outages.

What was handed over waits in lanes. A sender takes a lane, writes what has gathered in it as one
group, and waits for the answer; meanwhile the next group gathers. So nothing waits for a group to
fill, and groups are large just when there is much to send. Who waits for the answer anyway sends
by itself where nothing is under way: it spares two threads that wake each other.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from MessageBroker.core.driver import Publication, confirm_all
from MessageBroker.core.outage import Outage
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    PublishError,
)

logger = logging.getLogger(__name__)

# Between two tries while the broker is away (s).
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 2.0

# The topic, and what those share that stay in order: one group of theirs has to be answered
# before the next one is written. None: there is no order.
LaneName = tuple[str, str | None]

_thread = threading.local()  # `sends`: this thread is an outbox's


@dataclass(frozen=True)
class Limits:
    """How much an outbox does at once.

    Attributes:
        senders: groups under way.
        group_messages: the most messages of a group.
        group_bytes: the most bytes of a group; a single message may exceed it.
        pending_messages: what may wait, unsent or unconfirmed, before `put` blocks.
        pending_bytes: the same in bytes; a single message may exceed it.
    """

    senders: int
    group_messages: int
    group_bytes: int
    pending_messages: int
    pending_bytes: int


@dataclass
class _Lane:
    name: LaneName
    waiting: deque[Publication] = field(default_factory=deque)
    size: int = 0  # bytes of what waits
    queued: bool = False  # in the line of lanes that have something to send
    sending: int = 0  # groups under way

    @property
    def in_order(self) -> bool:
        return self.name[1] is not None


class Outbox:
    """Writes publications until each is confirmed or can never be.

    All state is guarded by one lock. Publications are settled without it, and after their room was
    given back: their callbacks may publish more.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[Publication]], Sequence[str]],
        *,
        lane_of: Callable[[Publication], LaneName],
        limits: Limits,
        outage: Outage,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin empty; threads are started when there is something to send.

        Args:
            name: of the threads.
            write: writes a group of one lane, and returns the ids once the broker has it durably.
                It is called again after a BrokerUnavailableError, which is said once an outage.
                After a ConfigurationError for several each is written on its own: one of them may
                be to blame. Any other error is of all.
            lane_of: chooses a publication's lane. A group is of one lane.
            limits: how much is done at once.
            outage: told when the broker is away.
            at_end: called once, when it was stopped and nothing is written any more.
        """
        self._name = name
        self._write = write
        self._lane_of = lane_of
        self._limits = limits
        self._outage = outage
        self._at_end = at_end
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._lanes: dict[LaneName, _Lane] = {}
        self._line: deque[_Lane] = deque()
        self._pending_messages = 0
        self._pending_bytes = 0
        self._senders: list[threading.Thread] = []
        self._idle = 0
        self._at_work = 0  # senders, and others who send by themselves
        self._ended = False
        self._stopped = threading.Event()

    def put(self, publications: Iterable[Publication], *, waits: bool = False) -> None:
        """Take over publications in order, blocking while too much is pending.

        What was handed over together is sent together, as far as there is room for it. A thread
        that sends, of whichever outbox, is never blocked: only senders make room. So callbacks of
        futures may exceed the limits. After `stop` nothing is taken.

        Args:
            publications: all of them may be sent before this returns.
            waits: whether the caller waits for the answer next. It then may send by itself, but
                for the main thread: a Ctrl-C must not end that in the middle.
        """
        may_wait, lane_of = not getattr(_thread, "sends", False), self._lane_of
        with self._lock:
            touched: set[LaneName] = set()
            lane: _Lane | None = None
            for publication in publications:  # a loop for each message: it calls what it must
                size = publication.size
                if may_wait and self._is_full(size):
                    self._start_sending(touched)
                    self._room.wait_for(lambda: self._stopped.is_set() or not self._is_full(size))  # noqa: B023
                    lane = None  # it may have gone
                if self._stopped.is_set():
                    return  # what is not confirmed is failed by the core
                self._pending_messages += 1
                self._pending_bytes += size
                name = lane_of(publication)
                if lane is None or lane.name != name:
                    lane = self._lanes.setdefault(name, _Lane(name))
                    touched.add(name)
                lane.waiting.append(publication)
                lane.size += size
            lane = self._free_lane(touched) if waits and may_wait else None
            group = self._take_group(lane) if lane is not None else []
            if group:
                self._at_work += 1
            self._start_sending(touched)
        if lane is not None:
            self._send_here(lane, group)

    def stop(self) -> None:
        """Write nothing more. What is not confirmed by its answer stays so."""
        with self._lock:
            self._stopped.set()
            self._work.notify_all()
            self._room.notify_all()
        self._end_if_idle()

    def close(self, timeout: float) -> None:
        """Stop, and wait for what the senders write, for `timeout` seconds at most."""
        self.stop()
        deadline = time.monotonic() + timeout
        for sender in self._senders:
            if sender is not threading.current_thread():
                sender.join(max(0.0, deadline - time.monotonic()))

    def _is_full(self, size: int) -> bool:
        return self._pending_messages >= self._limits.pending_messages or (
            self._pending_bytes > 0 and self._pending_bytes + size > self._limits.pending_bytes
        )

    def _start_sending(self, names: set[LaneName]) -> None:
        while names:
            lane = self._lanes.get(names.pop())
            if lane is not None:
                self._put_in_line(lane)

    def _put_in_line(self, lane: _Lane) -> None:
        if lane.queued or not lane.waiting or (lane.in_order and lane.sending):
            return
        lane.queued = True
        self._line.append(lane)
        # One that was notified for an earlier lane is idle until it has the lock.
        if self._idle >= len(self._line):
            self._work.notify()
        elif len(self._senders) < self._limits.senders and not self._stopped.is_set():
            name = f"{self._name} {len(self._senders) + 1}"
            sender = threading.Thread(target=self._send, name=name, daemon=True)
            self._senders.append(sender)
            self._at_work += 1
            sender.start()

    def _free_lane(self, names: set[LaneName]) -> _Lane | None:
        """Return the only lane that was put into, if nobody sends or is about to send of it."""
        if len(names) != 1 or threading.current_thread() is threading.main_thread():
            return None
        lane = self._lanes.get(next(iter(names)))
        return lane if lane is not None and not lane.queued and not lane.sending else None

    def _send_here(self, lane: _Lane, group: list[Publication]) -> None:
        """Send a group in the caller's thread; what is left in the lane is for the senders."""
        _thread.sends = True
        try:
            self._deliver(group)
        finally:
            _thread.sends = False
            with self._lock:
                self._at_work -= 1
                self._leave(lane)
            self._end_if_idle()

    def _leave(self, lane: _Lane) -> None:
        """Let the next group of a lane be sent."""
        lane.sending -= 1
        self._put_in_line(lane)
        if not lane.waiting and not lane.sending:
            del self._lanes[lane.name]

    def _end_if_idle(self) -> None:
        with self._lock:
            ends = self._stopped.is_set() and not self._at_work and not self._ended
            self._ended = self._ended or ends
        if ends:
            self._at_end()

    # ------------------------------------------------------------------ the senders

    def _send(self) -> None:
        _thread.sends = True
        while True:
            with self._lock:
                self._idle += 1
                while not self._line and not self._stopped.is_set():
                    self._work.wait()
                self._idle -= 1
                if self._stopped.is_set():
                    break
                lane = self._line.popleft()
                group = self._take_group(lane)
            self._deliver(group)
            with self._lock:
                self._leave(lane)
        with self._lock:
            self._at_work -= 1
        self._end_if_idle()

    def _take_group(self, lane: _Lane) -> list[Publication]:
        assert not (lane.in_order and lane.sending), "a lane in order has one group under way"
        lane.queued = False
        lane.sending += 1
        group: list[Publication] = []
        room = self._limits.group_bytes
        if len(lane.waiting) <= self._limits.group_messages and lane.size <= room:
            group.extend(lane.waiting)
            lane.waiting.clear()
            lane.size = 0
        while lane.waiting and len(group) < self._limits.group_messages:
            size = lane.waiting[0].size
            if group and size > room:
                break
            group.append(lane.waiting.popleft())
            room -= size
            lane.size -= size
        self._put_in_line(lane)
        return group

    def _deliver(self, group: Sequence[Publication]) -> None:
        """Write a group, and settle it; or leave it unsettled, when stopped."""
        try:
            ids = self._write_through_outages(group)
            if ids is None:
                return
            assert len(ids) == len(group), "each publication has an id"
        except ConfigurationError as error:
            if len(group) > 1:
                for publication in group:
                    self._deliver([publication])
            else:
                self._fail(group, error)
        except BrokerError as error:
            self._fail(group, error)
        except Exception as error:  # a defect: nobody shall wait for ever, nor the lane stand still
            logger.exception("%s: %d messages were not published", self._name, len(group))
            self._fail(group, PublishError(f"{self._name} failed by a defect: {error!r}"))
        else:
            self._give_room_back(group)
            confirm_all(group, ids)

    def _write_through_outages(self, group: Sequence[Publication]) -> Sequence[str] | None:
        waiter = group[0]  # each group waits for itself: others may be through
        backoff = MIN_BACKOFF_SECONDS
        while True:
            try:
                ids = self._write(group)
            except BrokerUnavailableError as error:
                if not self._stopped.is_set():
                    self._outage.begin(waiter, error)
                if self._stopped.wait(backoff * random.uniform(0.5, 1.0)):
                    self._outage.leave(waiter)
                    return None
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            except BaseException:
                self._outage.leave(waiter)
                raise
            else:
                self._outage.end(waiter)
                return ids

    def _fail(self, group: Sequence[Publication], error: BrokerError) -> None:
        self._give_room_back(group)
        for publication in group:
            publication.fail(error)

    def _give_room_back(self, group: Sequence[Publication]) -> None:
        with self._lock:
            self._pending_messages -= len(group)
            self._pending_bytes -= sum([publication.size for publication in group])
            assert self._pending_messages >= 0, "room is given back once"
            assert self._pending_bytes >= 0, "room is given back once"
            self._room.notify_all()

"""Many threads put, one of them writes for all: one write and one sync for the whole group.

The first thread that comes becomes the leader and appends what it finds waiting. Whoever comes
while it writes waits in line; when the leader is done, all of its group wake, and the first in the
line leads the next group. Records stand in the log in the order in which their puts began.

Threads that put one record after the other would fall into two halves that take turns, each paying
a whole sync for half of them. So a leader waits, for as long as a sync takes at most, until as many
are there as there were around the last group. One thread alone never waits.

A thread can be interrupted anywhere by an exception out of a signal handler (Ctrl-C), and once more
while it cleans up after the first. Nothing may wait for it then. So:

* Who leads, and who writes for whom, is written down under the mutex. Locks only wake; a wake-up
  too many or one that got lost is no harm, as each waiting thread looks every 50 ms by itself.
* The first thing that an interrupted thread does is to mark its entry as gone, which nothing can
  come between. Whoever looks and finds the leader gone goes on without it.
* No loop stands directly in a `with` over a lock, but in a function that is called there: from
  CPython 3.12 on, an exception that comes as a loop jumps back leaves the `with` without its end,
  and the lock would stay held.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from Queue.errors import QueueStorageError


class Entry:
    """One put, from its arrival to its end.

    Attributes:
        bodies: the encoded records.
        size: their bytes, roughly as they will stand in the log.
        error: why it failed; None if it did not.
        done: whether it is written or has failed.
        gone: whether its thread has left with an exception.
        leader: the entry whose thread writes this one; None while it waits in line.
        group: what its own thread writes, if it leads.
        wake: released when it is done, or when it is to lead.
        next: whom to wake after this one. Woken all at once, threads would fight for the
            interpreter's lock; one after the other they are back sooner.
    """

    __slots__ = ("bodies", "done", "error", "gone", "group", "leader", "next", "size", "wake")

    def __init__(self, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.size = sum(map(len, bodies)) + LINE_OVERHEAD_BYTES * len(bodies)
        self.error: BaseException | None = None
        self.done = False
        self.gone = False
        self.leader: Entry | None = None
        self.group: list[Entry] = []
        self.next: Entry | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class _Turn(Enum):
    """What the waiting of an entry ended with."""

    LEADS = auto()
    DONE = auto()
    TOO_LATE = auto()


LINE_OVERHEAD_BYTES = 36
"""What number, checksum and newline add to a record, with room for numbers of ten digits."""

MAX_GROUP_BYTES = 1 << 20
"""A group takes no further put beyond this: it bounds the memory and the longest wait."""


COMPANY_SECONDS = 0.0002
"""How long a leader waits for those who were there the last time: about one fdatasync."""


RECHECK_SECONDS = 0.05
"""A thread that waits looks this often by itself: the one that should have woken it may have been
interrupted."""


class GroupCommit:
    """Gathers puts of several threads into groups.

    Args:
        write: appends a group and sets the `error` of those entries that failed. Called by one
            thread at a time.
        admit: called by a leader before it gathers a group, with its own entry and its deadline:
            waits for locks and for room, or raises what the leader's put ends with. Returns how
            many bytes the group may have.
        release: gives back what `admit` took; called even if that failed, and perhaps twice.
    """

    def __init__(
        self,
        admit: Callable[[Entry, float | None], int],
        write: Callable[[list[Entry]], None],
        release: Callable[[], None],
    ) -> None:
        self._admit = admit
        self._write = write
        self._release = release
        self._working = threading.Lock()  # held by a leader at work
        self._mutex = threading.Lock()  # guards all below, and `leader` of the entries
        self._waiting: deque[Entry] = deque()
        self._leader: Entry | None = None
        self._company = 1  # how many were there around the last group
        self._awaited = 0  # how many a leader is waiting for; 0 if none is
        self._arrived = threading.Lock()  # released when they are there; a new one for each wait

    def put(self, entry: Entry, deadline: float | None) -> bool:
        """Returns when `entry` is written or has failed; False if its turn never came in time."""
        try:
            turn = _Turn.LEADS if self._join(entry) else self._wait_for_turn(entry, deadline)
            if turn is _Turn.LEADS:
                self._lead(entry, deadline)
            elif turn is _Turn.DONE and entry.next is not None:
                _wake(entry.next.wake)
        except BaseException:
            entry.gone = True
            self._step_out(entry)
            raise
        return turn is not _Turn.TOO_LATE

    def pause(self) -> threading.Lock:
        """Returns a lock that keeps groups from being written while it is held."""
        return self._working

    def _join(self, entry: Entry) -> bool:
        """Puts `entry` into the line; returns whether it leads."""
        with self._mutex:
            self._waiting.append(entry)
            if self._awaited and len(self._waiting) >= self._awaited:
                self._awaited = 0
                _wake(self._arrived)
            return self._has_to_lead(entry)

    def _has_to_lead(self, entry: Entry) -> bool:
        """Returns whether `entry` leads, finding a leader if there is none. With the mutex held."""
        if self._leader is None or self._leader.gone:
            self._call_next()
        return self._leader is entry

    def _call_next(self) -> None:
        """Makes the first in the line the leader. Called with the mutex held."""
        waiting = self._waiting
        while waiting and waiting[0].gone:
            waiting.popleft()
        self._leader = waiting[0] if waiting else None
        if self._leader is not None:
            _wake(self._leader.wake)

    def _wait_for_turn(self, entry: Entry, deadline: float | None) -> _Turn:
        while True:
            woken = entry.wake.acquire(timeout=_at_most(deadline, RECHECK_SECONDS))
            if entry.done:
                return _Turn.DONE
            if woken and self._leader is entry:
                return _Turn.LEADS
            turn = self._look(entry, deadline)
            if turn is not None:
                return turn
            if entry.leader is not None:
                deadline = None  # it is being written: that has to end first

    def _look(self, entry: Entry, deadline: float | None) -> _Turn | None:
        """Returns what the waiting has ended with, None if it has not."""
        with self._mutex:
            if entry.done:
                return _Turn.DONE
            if self._has_to_lead(entry):
                return _Turn.LEADS
            if entry.leader is not None:
                if not entry.leader.gone:
                    return None
                entry.error = QueueStorageError(
                    "the thread that wrote this put for others was interrupted; it may be stored "
                    "or not; put it again"
                )
                self._leave_line(entry)
                return _Turn.DONE
            if deadline is not None and time.monotonic() >= deadline:
                self._leave_line(entry)
                return _Turn.TOO_LATE
            return None

    def _leave_line(self, entry: Entry) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(entry)

    def _step_out(self, entry: Entry) -> None:
        """Lets the others go on without the thread of `entry`, which was interrupted."""
        with self._mutex:
            self._leave_line(entry)
            if self._leader is entry:
                self._call_next()
        for member in entry.group:
            _wake(member.wake)

    def _lead(self, entry: Entry, deadline: float | None) -> None:
        entry.group.append(entry)
        try:
            self._await_company()
            with self._working:
                try:
                    room = self._admit(entry, deadline)
                    self._gather(entry, room)
                    self._write(entry.group)
                finally:
                    try:
                        self._release()
                    except BaseException:  # a lock that stays held would keep others waiting
                        self._release()
                        raise
        except Exception as error:  # noqa: BLE001 (each member raises it)
            for member in entry.group:
                member.error = member.error or error
        self._hand_over(entry)

    def _await_company(self) -> None:
        with self._mutex:
            if len(self._waiting) >= self._company:
                return
            arrived = self._arrived = threading.Lock()
            arrived.acquire()
            self._awaited = self._company
        arrived.acquire(timeout=COMPANY_SECONDS)
        self._awaited = 0

    def _gather(self, leader: Entry, room: int) -> None:
        """Takes the leader and as many behind it as fit into a group and into the room left."""
        with self._mutex:
            self._take_from_line(leader, min(MAX_GROUP_BYTES, room))

    def _take_from_line(self, leader: Entry, limit: int) -> None:
        """See `_gather`; a function of its own for the loop, see the module's text."""
        waiting, group, size = self._waiting, leader.group, 0
        while waiting and (waiting[0] is leader or size + waiting[0].size <= limit):
            member = waiting[0]
            size += member.size
            if member is not leader and not member.gone:
                member.leader = leader  # before it is out of the line: it finds out by this
                group.append(member)
            waiting.popleft()

    def _hand_over(self, leader: Entry) -> None:
        group = leader.group
        with self._mutex:
            if self._waiting and self._waiting[0] is leader:  # it never came to gather
                self._waiting.popleft()
            self._company = len(group) + len(self._waiting)
            # Before the others wake: while they return, the next group is on its way to the disk.
            self._call_next()
        following: Entry | None = None
        for member in reversed(group):
            member.done = True
            if member is not leader:
                member.next, following = following, member
        if following is not None:
            _wake(following.wake)
        group.clear()  # no cycle of references is left to the garbage collector


def _wake(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:  # it is awake already
        return


def _at_most(deadline: float | None, seconds: float) -> float:
    return seconds if deadline is None else max(0.0, min(seconds, deadline - time.monotonic()))

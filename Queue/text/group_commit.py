"""Many threads put, one of them writes for all: one write and one sync for the whole group.

A thread that comes alone becomes the leader and appends what it finds waiting: itself. Whoever
comes while it writes waits in line. When the leader is done all of its group wake, one of those in
line leads the next group, and takes with it all that stand there by then. Records stand in the log
in the order in which their puts began.

Threads that put one record after the other would fall into two halves that take turns, each paying
a whole sync for half of them. So nobody leads until as many are in line as there were around the
last group. The one that makes the line complete leads at once: it is awake, and waking another
would cost more than writing. Should the others not come, the first in line leads after the time of
about two syncs. One thread alone never waits.

A thread can be interrupted anywhere by an exception out of a signal handler (Ctrl-C), and once more
while it cleans up after the first. Nothing may wait for it then. So:

* Who leads, and who writes for whom, is written down under the mutex. Locks only wake; a wake-up
  too many or one that got lost is no harm, as each waiting thread looks every 50 ms by itself.
* The first thing that an interrupted thread does is to mark its entry as gone, which nothing can
  come between. Whoever looks and finds the leader gone goes on without it.
* No loop stands directly in a `with` over a lock or in the `try` of `put`, but in a function that
  is called there: from CPython 3.12 on, an exception that comes as a loop jumps back leaves both
  without their end. The lock would stay held, and nobody know that the leader is gone.
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
        wake: released when it is done, or when it is the first in line.
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
    """What an entry's thread does next."""

    WAIT = auto()
    WATCH = auto()
    """Wait as the first in line while nobody leads: for company, but not for long."""
    LEAD = auto()
    LEAVE = auto()
    """The entry is done."""
    GIVE_UP = auto()


LINE_OVERHEAD_BYTES = 37
"""What number, checksum and newline add to a record, with room for numbers of ten digits."""

MAX_GROUP_BYTES = 1 << 20
"""A group takes no further put beyond this: it bounds the memory and the longest wait."""


COMPANY_SECONDS = 0.0005
"""How long the first in line waits for those who were there the last time: about two syncs."""


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
        self._has_plenty = False  # there was more room around the last group than one can take

    def put(self, entry: Entry, deadline: float | None) -> bool:
        """Returns when `entry` is written or has failed; False if its turn never came in time."""
        try:
            is_done = self._take_turns(entry, deadline)
            if entry.next is not None:
                _wake(entry.next.wake)
        except BaseException:
            entry.gone = True
            self._step_out(entry)
            raise
        return is_done

    def _take_turns(self, entry: Entry, deadline: float | None) -> bool:
        """See `put`; a function of its own for the loop, see the module's text."""
        turn = self._join(entry)
        while turn is not _Turn.LEAVE and turn is not _Turn.GIVE_UP:
            if turn is _Turn.LEAD:
                turn = self._lead(entry, deadline)
            else:
                turn = self._wait(entry, turn, deadline)
        return turn is _Turn.LEAVE

    def pause(self) -> threading.Lock:
        """Returns a lock that keeps groups from being written while it is held."""
        return self._working

    def _join(self, entry: Entry) -> _Turn:
        with self._mutex:
            self._waiting.append(entry)
            return self._next_turn(entry, has_watched=False)

    def _next_turn(self, entry: Entry, has_watched: bool) -> _Turn:
        """Returns whether `entry`, which is in line, leads or waits. With the mutex held."""
        if self._leader is not None:
            if not self._leader.gone:
                return _Turn.WAIT
            self._leader = None
        is_first = self._first_in_line() is entry
        if has_watched or len(self._waiting) >= self._company:
            # With little room left, one further back might find room for itself alone.
            if is_first or self._has_plenty:
                self._leader = entry
                return _Turn.LEAD
            self._wake_first()
        return _Turn.WATCH if is_first else _Turn.WAIT

    def _first_in_line(self) -> Entry | None:
        """Returns the first whose thread is still there. With the mutex held."""
        waiting = self._waiting
        while waiting and waiting[0].gone:
            waiting.popleft()
        return waiting[0] if waiting else None

    def _wait(self, entry: Entry, turn: _Turn, deadline: float | None) -> _Turn:
        watches = turn is _Turn.WATCH
        seconds = COMPANY_SECONDS if watches else RECHECK_SECONDS
        if deadline is not None and entry.leader is None:  # if it is being written, that has to end
            seconds = max(0.0, min(seconds, deadline - time.monotonic()))
        woken = entry.wake.acquire(timeout=seconds)
        if entry.done:
            return _Turn.LEAVE
        return self._look(entry, deadline, has_watched=watches and not woken)

    def _look(self, entry: Entry, deadline: float | None, has_watched: bool) -> _Turn:
        """Returns what the waiting has ended with, or that it goes on."""
        with self._mutex:
            if entry.done:
                return _Turn.LEAVE
            if entry.leader is not None:
                if not entry.leader.gone:
                    return _Turn.WAIT
                entry.error = QueueStorageError(
                    "the thread that wrote this put for others was interrupted; it may be stored "
                    "or not; put it again"
                )
                self._leave_line(entry)
                return _Turn.LEAVE
            turn = self._next_turn(entry, has_watched)
            # The first in line tries once, however late it is.
            if turn is _Turn.WAIT and deadline is not None and time.monotonic() >= deadline:
                self._leave_line(entry)
                return _Turn.GIVE_UP
            return turn

    def _leave_line(self, entry: Entry) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(entry)

    def _step_out(self, entry: Entry) -> None:
        """Lets the others go on without the thread of `entry`, which was interrupted."""
        with self._mutex:
            self._leave_line(entry)
            if self._leader is entry:
                self._leader = None
            self._wake_first()
        for member in entry.group:
            _wake(member.wake)

    def _wake_first(self) -> None:
        """Lets the first in line look whether it leads. With the mutex held."""
        first = self._first_in_line()
        if first is not None:
            _wake(first.wake)

    def _lead(self, entry: Entry, deadline: float | None) -> _Turn:
        group = entry.group
        try:
            with self._working:
                try:
                    room = self._admit(entry, deadline)
                    self._gather(entry, room)
                    if group:
                        self._write(group)
                finally:
                    try:
                        self._release()
                    except BaseException:  # a lock that stays held would keep others waiting
                        self._release()
                        raise
        except Exception as error:  # noqa: BLE001 (each member raises it)
            self._fail(entry, error)
        self._hand_over(entry)
        # Those before it in line may have filled the group: then it waits like any other.
        return _Turn.LEAVE if entry.done else _Turn.WAIT

    def _gather(self, leader: Entry, room: int) -> None:
        """Takes from the line as many as fit into a group and into the room left."""
        with self._mutex:
            self._has_plenty = room > MAX_GROUP_BYTES
            self._take_from_line(leader, room)

    def _take_from_line(self, leader: Entry, room: int) -> None:
        """See `_gather`; a function of its own for the loop, see the module's text."""
        waiting, group, size = self._waiting, leader.group, 0
        while waiting and size + waiting[0].size <= room:
            if group and size + waiting[0].size > MAX_GROUP_BYTES:
                break
            member = waiting[0]
            if not member.gone:
                size += member.size
                if member is not leader:
                    member.leader = leader  # before it is out of the line: it finds out by this
                group.append(member)
            waiting.popleft()

    def _fail(self, leader: Entry, error: BaseException) -> None:
        """Marks the group as failed; the leader alone, if it never came to gather one."""
        if not leader.group:
            with self._mutex:
                self._leave_line(leader)
            leader.group.append(leader)
        for member in leader.group:
            member.error = member.error or error

    def _hand_over(self, leader: Entry) -> None:
        group = leader.group
        with self._mutex:
            self._company = len(group) + len(self._waiting)
            self._leader = None
            # Before the others wake: while they return, the next group is on its way to the disk.
            self._wake_first()
        following: Entry | None = None
        for member in reversed(group):
            if member is not leader:
                member.next, following = following, member
            member.done = True
        if following is not None:
            _wake(following.wake)
        group.clear()  # no cycle of references is left to the garbage collector


def _wake(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:  # it is awake already
        return

"""Many threads put, one of them writes for all: one write and one sync for the whole group.

The first thread that comes becomes the leader and appends what it finds waiting. Whoever comes
while it writes waits in line; when the leader is done, all of its group wake, and the first in the
line leads the next group. Records stand in the log in the order in which their puts began.

Threads that put one record after the other would fall into two halves that take turns, each paying
a whole sync for half of them. So a leader waits, for as long as a sync takes at most, until as many
are there as there were around the last group. One thread alone never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from Queue.errors import QueueStorageError


class Entry:
    """One put, from its arrival to its end.

    Attributes:
        bodies: the encoded records.
        size: their bytes, roughly as they will stand in the log.
        error: why it failed; None if it did not.
        done: whether it is written or has failed.
        wake: released when it is done, or when it is to lead.
        next: whom to wake after this one. Woken all at once, threads would fight for the
            interpreter's lock; one after the other they are back sooner.
    """

    __slots__ = ("bodies", "done", "error", "next", "size", "wake")

    def __init__(self, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.size = sum(map(len, bodies)) + LINE_OVERHEAD_BYTES * len(bodies)
        self.error: BaseException | None = None
        self.done = False
        self.next: Entry | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


LINE_OVERHEAD_BYTES = 36
"""What number, checksum and newline add to a record, with room for numbers of ten digits."""

MAX_GROUP_BYTES = 1 << 20
"""A group takes no further put beyond this: it bounds the memory and the longest wait."""


COMPANY_SECONDS = 0.0002
"""How long a leader waits for those who were there the last time: about one fdatasync."""


RECHECK_SECONDS = 0.05
"""A thread that waits looks this often whether it is done: the one that should have woken it may
have been interrupted."""


class GroupCommit:
    """Gathers puts of several threads into groups.

    Args:
        write: appends a group and sets the `error` of those entries that failed. Called by one
            thread at a time.
        admit: called by a leader before it gathers a group, with its own entry and its deadline:
            waits for locks and for room, or raises what the leader's put ends with. Returns how
            many bytes the group may have.
        release: gives back what `admit` took; called even if that failed.
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
        self._mutex = threading.Lock()
        self._working = threading.Lock()
        self._waiting: deque[Entry] = deque()
        self._company = 1  # how many were there around the last group
        self._awaited = 0  # how many a leader is waiting for; 0 if none is
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._has_leader = False

    def put(self, entry: Entry, deadline: float | None) -> bool:
        """Returns when `entry` is written or has failed; False if its turn never came in time."""
        with self._mutex:
            self._waiting.append(entry)
            if self._awaited and len(self._waiting) >= self._awaited:
                self._awaited = 0
                self._arrived.release()
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            if not self._wait_for_turn(entry, deadline):
                return False
            if entry.done:
                if entry.next is not None:
                    entry.next.wake.release()
                return True
        self._lead(entry, deadline)
        return True

    def pause(self) -> threading.Lock:
        """Returns a lock that keeps groups from being written while it is held."""
        return self._working

    def _wait_for_turn(self, entry: Entry, deadline: float | None) -> bool:
        try:
            while not entry.wake.acquire(timeout=_at_most(deadline, RECHECK_SECONDS)):
                if entry.done:
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    break
            else:
                return True
        except BaseException:  # KeyboardInterrupt: the line must not wait for one who has gone
            self._step_out(entry)
            raise
        with self._mutex:
            if entry in self._waiting and self._waiting[0] is not entry:
                self._waiting.remove(entry)
                return False
        # It is being written, or about to lead: that has to end first.
        while not entry.wake.acquire(timeout=RECHECK_SECONDS) and not entry.done:
            pass
        return True

    def _step_out(self, entry: Entry) -> None:
        with self._mutex:
            if entry not in self._waiting:
                return
            was_called = not entry.wake.locked()
            self._waiting.remove(entry)
            if was_called:
                self._call_next()

    def _lead(self, entry: Entry, deadline: float | None) -> None:
        group = [entry]
        try:
            self._await_company()
            with self._working:
                try:
                    room = self._admit(entry, deadline)
                    group = self._gather(room)
                    self._write(group)
                finally:
                    self._release()
        except Exception as error:  # noqa: BLE001 (each member raises it)
            for member in group:
                member.error = member.error or error
        except BaseException as error:  # KeyboardInterrupt: it is the leader's alone
            for member in group:
                member.error = QueueStorageError(
                    f"the thread that wrote this put for others was interrupted ({error!r}); it "
                    "may be stored or not; put it again"
                )
            raise
        finally:
            self._hand_over(entry, group)

    def _await_company(self) -> None:
        with self._mutex:
            if len(self._waiting) >= self._company:
                return
            self._awaited = self._company
        if not self._arrived.acquire(timeout=COMPANY_SECONDS):
            with self._mutex:
                if not self._awaited:  # they came just now
                    self._arrived.acquire()
                self._awaited = 0

    def _gather(self, room: int) -> list[Entry]:
        """Takes the leader and as many behind it as fit into a group and into the room left."""
        limit = min(MAX_GROUP_BYTES, room)
        with self._mutex:
            group = [self._waiting.popleft()]
            size = group[0].size
            while self._waiting and size + self._waiting[0].size <= limit:
                group.append(self._waiting.popleft())
                size += group[-1].size
        return group

    def _hand_over(self, leader: Entry, group: list[Entry]) -> None:
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
            following.wake.release()

    def _call_next(self) -> None:
        """Makes the first in the line the leader. Called with the mutex held."""
        if self._waiting:
            self._waiting[0].wake.release()
        else:
            self._has_leader = False


def _at_most(deadline: float | None, seconds: float) -> float:
    return seconds if deadline is None else max(0.0, min(seconds, deadline - time.monotonic()))

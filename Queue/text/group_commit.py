"""Many threads put, one of them writes for all: one write and one sync for the whole group.

The first in line leads: it writes what stands in line by then, its own put first, while the others
wait. When it is done its group returns, and the first of those who have come meanwhile leads the
next one. Records stand in the log in the order in which their puts began.

An exception out of a signal handler (Ctrl-C) that ends a put in the middle may leave anything half
done. So the queue is not used any further: nobody waits for what was interrupted, and the owner is
told to open the queue anew, which looks at the files and knows again where they end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from Queue.errors import QueueClosedError, QueueError

# What number, checksum and newline add to a record, with room for numbers of ten digits.
LINE_OVERHEAD_BYTES = 37
# A group takes no further put beyond this: it bounds the memory and the longest wait.
MAX_GROUP_BYTES = 1 << 20
# A thread that waits looks this often by itself whether the queue can still be used.
RECHECK_SECONDS = 0.1


class PendingPut:
    """One put, from its arrival to its end."""

    __slots__ = ("bodies", "done", "error", "size", "taken")

    def __init__(self, bodies: list[bytes]) -> None:
        """Make an entry that stands nowhere yet.

        Args:
            bodies: the encoded records.
        """
        self.bodies = bodies
        # Their bytes, roughly as they will stand in the log.
        self.size = sum(map(len, bodies)) + LINE_OVERHEAD_BYTES * len(bodies)
        # Why it failed; None if it did not.
        self.error: BaseException | None = None
        # A leader writes it, and it cannot leave the line any more.
        self.taken = False
        # It is written or has failed.
        self.done = False


class GroupCommit:
    """Gathers puts of several threads into groups.

    Attributes:
        interrupted: a put was ended in its middle; the queue is not to be used any further.
    """

    def __init__(
        self,
        admit: Callable[[PendingPut, float | None], int],
        write: Callable[[list[PendingPut]], None],
        release: Callable[[], None],
    ) -> None:
        """Gather puts that are written by `write`.

        Args:
            admit: called by a leader before it gathers a group, with its own entry and its
                deadline: waits for locks and for room, or raises what the leader's put ends with.
                Returns how many bytes the group may have, no fewer than the entry's own.
            write: appends a group and sets the `error` of those entries that failed. Called by
                one thread at a time.
            release: gives back what `admit` took; called even if that failed.
        """
        self.interrupted = False
        self._admit = admit
        self._write = write
        self._release = release
        self._working = threading.Lock()  # held by a leader at work
        self._mutex = threading.RLock()  # guards all below, and `taken` and `done` of the entries
        self._changed = threading.Condition(self._mutex)
        self._waiting: deque[PendingPut] = deque()
        self._is_led = False

    def put(self, entry: PendingPut, deadline: float | None) -> bool:
        """Return when `entry` is written or has failed; False if its turn never came in time."""
        try:
            with self._mutex:  # no loop in here: from CPython 3.12 on Ctrl-C could leave it locked
                in_time = self._wait_in_line(entry, deadline)
            if in_time and not entry.done:
                with self._working:
                    self._lead(entry, deadline)
        except BaseException:
            self.interrupted = True  # whoever waits looks at this
            raise
        return in_time

    def at_rest(self) -> threading.Lock:
        """Return what keeps leaders from working while it is held."""
        return self._working

    def _wait_in_line(self, entry: PendingPut, deadline: float | None) -> bool:
        """Return True when `entry` is done or leads, False when its time is over."""
        self._waiting.append(entry)
        while not entry.done:
            if self.interrupted:
                self._refuse(entry)
            elif not self._is_led and self._waiting[0] is entry:
                # The first in line tries once, however late it is.
                self._is_led = True
                return True
            else:
                wait = RECHECK_SECONDS
                if deadline is not None and not entry.taken:  # what is being written has to end
                    wait = min(wait, deadline - time.monotonic())
                if wait <= 0:
                    self._waiting.remove(entry)
                    return False
                self._changed.wait(wait)
        return True

    def _refuse(self, entry: PendingPut) -> None:
        fate = "it may be stored or not" if entry.taken else "nothing of it was written"
        entry.error = QueueClosedError(
            f"a put of another thread was interrupted while this one waited: {fate}; "
            "open the queue anew and put it again"
        )
        entry.done = True

    def _lead(self, entry: PendingPut, deadline: float | None) -> None:
        group = [entry]
        try:
            try:
                room = self._admit(entry, deadline)
                with self._mutex:
                    group = self._gather(room)
                assert group[0] is entry, "the leader is the first of its group"
                self._write(group)
            finally:
                self._release()
        except (QueueError, OSError) as error:
            for member in group:
                member.error = member.error or error
        with self._mutex:
            self._hand_over(group)

    def _gather(self, room: int) -> list[PendingPut]:
        """Take from the line as many as fit into a group and into the room left."""
        waiting, size = self._waiting, 0
        group: list[PendingPut] = []
        while waiting and size + waiting[0].size <= room:
            if group and size + waiting[0].size > MAX_GROUP_BYTES:
                break
            member = waiting.popleft()
            member.taken = True
            size += member.size
            group.append(member)
        return group

    def _hand_over(self, group: list[PendingPut]) -> None:
        """Let the group return, and the next one in line lead."""
        if not group[0].taken:  # it was not admitted
            self._waiting.remove(group[0])
        for member in group:
            member.done = True
        self._is_led = False
        self._changed.notify_all()

"""Steps that overlap: each a thread, handing its results to the next over a short queue.

While one batch is on the disk the next is predicted and the one after is received. The queues are
short, so that a slow step holds back the ones before it (back-pressure) and memory stays flat.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from DurableText.closing import ClosedAtExit
from Pipeline.stop import Stop

# One batch waits before each step: enough to keep it busy. More would only be received earlier.
WAITING_BATCHES = 1

_END = object()


class _Inbox:
    """What waits before a step, one at most: a `Queue` of size 1, handed over twice as quickly."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(WAITING_BATCHES):
            self._room.put(None)

    def put(self, item: Any) -> None:
        """Put an item in; blocks while there is no room."""
        self._room.get()
        self._items.put(item)

    def get(self) -> Any:
        """Take an item out; blocks while there is none."""
        item = self._items.get()
        self._room.put(None)
        return item


class Steps(ClosedAtExit):
    """A chain of functions, each in a thread of its own, in order.

    A failing step asks the script to stop; its error is raised by `put` or `close`. From then
    on nothing is worked on: what was received and not acked comes again.
    """

    def __init__(self, stop: Stop, *functions: Callable[[Any], Any]) -> None:
        """Start a thread for each function; what one returns is given to the next."""
        self._stop = stop
        self._failure: BaseException | None = None
        self._inboxes = [_Inbox() for _ in functions]
        self._threads = [
            threading.Thread(
                target=self._run, args=(i, function), name=function.__name__.strip("_")
            )
            for i, function in enumerate(functions)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, item: Any) -> None:
        """Hand an item to the first step; blocks while it is busy."""
        self._inboxes[0].put(item)
        self._raise_failure()

    def close(self) -> None:
        """Wait until all that was put has gone through."""
        self._inboxes[0].put(_END)
        for thread in self._threads:
            thread.join()
        self._raise_failure()

    def _run(self, i: int, function: Callable[[Any], Any]) -> None:
        following = self._inboxes[i + 1] if i + 1 < len(self._inboxes) else None
        while (item := self._inboxes[i].get()) is not _END:
            if self._failure is not None:
                continue  # keep taking, so that the steps before never block
            try:
                result = function(item)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self._failure = error
                self._stop.request()
            else:
                if following is not None:
                    following.put(result)
        if following is not None:
            following.put(_END)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

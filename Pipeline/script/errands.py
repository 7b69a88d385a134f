"""Threads that do what somebody waits for, who may have to leave it behind.

They are kept: making one for each errand costs a quarter of a millisecond on a machine that idled.
For the same reason a bare lock tells that it is done, and not a `Future`.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

_idle: deque[_Runner] = deque()


class Errand(Generic[Result]):
    """Something that another thread does, one that does nothing else meanwhile."""

    def __init__(self, action: Callable[[], Result]) -> None:
        """Begin at once."""
        self._action = action
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self._result: Result
        self._error: BaseException | None = None
        try:
            runner = _idle.pop()
        except IndexError:
            runner = _Runner()
        runner.errands.put(self)

    def is_done_within(self, seconds: float) -> bool:
        """Wait until it is done, for so long at most."""
        if not self._under_way.acquire(timeout=seconds):
            return False
        self._under_way.release()
        return True

    def result(self) -> Result:
        """Return what came of it, once it is done, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def be_done_by(self, runner: _Runner) -> None:
        """Do it."""
        try:
            self._result = self._action()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            _idle.append(runner)  # first: who waits may come with the next one at once
            self._under_way.release()


class _Runner:
    """One thread; it ends with the process."""

    def __init__(self) -> None:
        self.errands: queue.SimpleQueue[Errand[Any]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="errands", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.errands.get().be_done_by(self)

"""Threads that do what somebody waits for, who may have to leave it behind.

They are kept: making one for each errand costs a quarter of a millisecond on a machine that idled.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

_idle: deque[_Runner] = deque()


def run(action: Callable[[], Result]) -> Future[Result]:
    """Do something in another thread, one that does nothing else meanwhile."""
    future: Future[Result] = Future()

    def errand(runner: _Runner) -> None:
        try:
            result = action()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            _idle.append(runner)
            future.set_exception(error)
        else:
            _idle.append(runner)  # first: who waits may come with the next one at once
            future.set_result(result)

    try:
        runner = _idle.pop()
    except IndexError:
        runner = _Runner()
    runner.do(errand)
    return future


class _Runner:
    """One thread; it ends with the process."""

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[Callable[[_Runner], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="errands", daemon=True).start()

    def do(self, errand: Callable[[_Runner], None]) -> None:
        """Do it as soon as the one before is done."""
        self._errands.put(errand)

    def _run(self) -> None:
        while True:
            self._errands.get()(self)

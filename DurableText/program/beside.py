"""What is done beside whoever waits for it: a call that may hang does not hang them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_a_thread(name: str, call: Callable[[], Result]) -> Future[Result]:
    """Call in a thread of its own, which nobody has to wait for: also not where the process ends.

    Args:
        name: the thread's.
        call: what it does; all that it raises is raised where its result is asked for.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome

"""A model that never comes up must not keep the server from stopping.

What is loaded runs code of others: a network that is tried out, a class of the user's. While that
is in native code, no handler of a signal runs. But the system writes the signal's number into a
pipe, if it was given one, and a thread reads it there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from DurableText.command_line import EXIT_DONE
from Pipeline.observability.waiting import SLOW_MODEL_SECONDS
from Pipeline.serving.watchdog import Watchdog

logger = logging.getLogger(__name__)

# What loading may take to end by itself after a signal. Nothing is lost with it: what the server
# has not answered comes again.
LOADING_SECONDS = 5.0

_pipes: set[int] = set()  # both ends of each that is watched


def _leave_pipes_in_child() -> None:
    """Let go of them in a forked child: what it is told does not concern its parent.

    And the watch ends when nobody has the pipe open any more to write.
    """
    if _pipes:
        signal.set_wakeup_fd(-1)
    while _pipes:
        os.close(_pipes.pop())


os.register_at_fork(after_in_child=_leave_pipes_in_child)


@contextlib.contextmanager
def ended_by_signals(
    seconds: float = LOADING_SECONDS, end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """End the process if it was told to stop and the context is not left soon; for the main thread.

    Args:
        seconds: after the signal.
        end: ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a reload: the model before goes on, and the script ends without this thread
        return
    reader, writer = os.pipe()
    _pipes.update((reader, writer))
    os.set_blocking(writer, False)
    done = threading.Event()

    def watch() -> None:
        while numbers := os.read(reader, 64):
            if not {signal.SIGINT, signal.SIGTERM} & set(numbers):
                continue
            if not done.wait(seconds):
                logger.warning("stopping: the model was still being loaded")
                end(EXIT_DONE)
            return

    thread = threading.Thread(target=watch, name="loading", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        done.set()
        _pipes.difference_update((reader, writer))
        os.close(writer)
        thread.join()
        os.close(reader)


def told_if_slow(watchdog: Watchdog, what: str) -> contextlib.AbstractContextManager[None]:
    """Log once that `what` is still being loaded, when that has taken long."""
    slow = f"{what} is still being loaded after {SLOW_MODEL_SECONDS:g} s"
    return watchdog.tell(SLOW_MODEL_SECONDS, slow)

"""Signs of life while a publish lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from Queue.errors import QueueError, QueuePassingError

logger = logging.getLogger(__name__)


class Renewal:
    """Calls something regularly in a thread of its own, once there is something to call."""

    def __init__(self, interval: float) -> None:
        """Wait to be started; `interval` in seconds."""
        self._interval = interval
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble: QueueError | None = None

    def start(self, renew: Callable[[], None]) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(renew,), name="queue-lease", daemon=True
            )
            self._thread.start()

    def raise_trouble(self) -> None:
        """Raise what does not pass by itself, and was met in the thread."""
        if self._trouble is not None:
            raise self._trouble

    def stop(self) -> None:
        """End it, without waiting for a server that hangs: it ends with its answer."""
        self._stopping.set()

    def _run(self, renew: Callable[[], None]) -> None:
        while not self._stopping.wait(self._interval):
            try:
                renew()
            except QueuePassingError as error:  # whoever takes or commits tells of it
                logger.debug("not renewed: %s", error)
            except QueueError as error:
                if not self._stopping.is_set():
                    self._trouble = error
                return

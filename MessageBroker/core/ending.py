"""The end of what may hang: it is brought about beside the caller, who waits for so long only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Ending:
    """Work in a thread of its own, which goes on when nobody waits for it any more."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        """Begin.

        Args:
            work: ends something; a client library's call in it may never return.
            name: of the thread, and for the log.
        """
        self._work = work
        self._name = name
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter ends, and starts no thread any more
            self._run()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done; tell whether that was within `seconds`. Raises what it raised."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._thread.join(left)
        self._given_up = self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return not self._given_up

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
            if self._given_up:
                logger.exception("%s failed", self._name)

"""Waiting until replicas have a put: `replicas=N`.

What it promises: N replicas had the records in memory when the put returned. A fail-over to one of
those loses none of them; Redis chooses the one that is furthest, and gives no guarantee for it. See
https://redis.io/docs/latest/commands/wait/

A replica that lags lets `put` raise, and the caller puts the same records again. They stand in the
stream already: so the next put first asks whether they have arrived, and appends nothing while they
have not. Else a replica that is away for an hour would fill the stream with repetitions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from DurableText.patience import taken_in_time
from Queue.errors import QueueUnavailableError
from Queue.redis.session import Ask
from Queue.redis.url import RedisUrl

# One question waits for so long at most, well within the time that an answer may take.
PART_OF_ANSWER = 4

# How long the key stays that is written only to have written something.
MARKER_MILLISECONDS = 1000


class Replication:
    """What was appended and has not arrived everywhere yet."""

    def __init__(self, url: RedisUrl, answer_seconds: float) -> None:
        """Begin with nothing.

        Args:
            url: how many replicas are waited for.
            answer_seconds: how long an answer may take.
        """
        self._url = url
        self._seconds = answer_seconds / PART_OF_ANSWER
        self._lock = threading.Lock()
        self._pending: tuple[list[bytes], Any] | None = None  # the bodies, and what the put returns

    def forget(self) -> None:
        """Assume no more that the server has what was appended: it may be another one now."""
        self._pending = None

    def append(
        self,
        ask: Ask,
        bodies: list[bytes],
        deadline: float | None,
        append: Callable[[], Any],
    ) -> Any:
        """Append, and wait for the replicas; return what `append` returned.

        Raises:
            QueueUnavailableError: they have not got it yet, or not what other threads have put.
        """
        if not taken_in_time(self._lock, deadline):
            raise QueueUnavailableError(
                f"puts of other threads into the queue {self._url.name} still wait for "
                f"replicas={self._url.replicas}; nothing of this one was written"
            )
        try:
            if (pending := self._pending) is not None:
                # WAIT is about what its own connection has written, and all before that.
                ask("SET", f"{{{self._url.stream}}}:replicated", "?", "PX", MARKER_MILLISECONDS)
                self._wait(ask, deadline, appended=0)
                self._pending = None
                if pending[0] == bodies:
                    return pending[1]
            answer = append()
            if isinstance(answer, bytes):
                self._pending = bodies, answer
                self._wait(ask, deadline, appended=None)
                self._pending = None
            return answer
        finally:
            self._lock.release()

    def _wait(self, ask: Ask, deadline: float | None, appended: int | None) -> None:
        while True:
            seconds = self._seconds
            if deadline is not None:
                seconds = min(seconds, deadline - time.monotonic())
            have = ask("WAIT", self._url.replicas, max(1, int(seconds * 1000)))
            if have >= self._url.replicas:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueUnavailableError(
                    f"{have} of replicas={self._url.replicas} of the queue {self._url.name} have "
                    "what was put; are they connected to the primary?",
                    appended,
                )

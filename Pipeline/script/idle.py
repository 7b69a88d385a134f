"""When a consumer has been idle for so long that it may end: `--exit-when-idle`."""

from __future__ import annotations

import time


class IdleClock:
    """Tells when nothing has come for long enough to end; never, without a limit."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._since = time.monotonic()

    def restart(self) -> None:
        """Something came, or nothing could come."""
        self._since = time.monotonic()

    @property
    def expired(self) -> bool:
        """True once nothing has come for the limit."""
        return self._limit is not None and time.monotonic() - self._since >= self._limit

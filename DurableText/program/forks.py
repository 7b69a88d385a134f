"""Who opened a broker, a queue or a DB: its threads and locks do not survive a fork.

A child has none of its parent's threads, so what it hands to them waits for ever; and it shares
the parent's connections, file locks and places in files, so what it does itself damages them.
"""

from __future__ import annotations

import os


class Opener:
    """The process that opened something. It alone may use it."""

    def __init__(self, what: str, error: type[Exception]) -> None:
        """Note this process.

        Args:
            what: what it opens, as it shall stand in the error: "Queue/log.txt: this queue".
            error: what `require` raises.
        """
        self._what = what
        self._error = error
        self._process = os.getpid()

    @property
    def is_another_process(self) -> bool:
        """True in a child made by fork."""
        return os.getpid() != self._process

    def require(self) -> None:
        """Go on in the process that opened it; raise the error in a child."""
        if self.is_another_process:
            raise self._error(
                f"{self._what} was opened by process {self._process}, before a fork; "
                "open one of your own in the child"
            )

"""Who opened a broker: its threads and locks do not survive a fork.

A child has none of its parent's threads, so what it hands to them waits for ever; and it shares
the parent's connections and file locks, so what it does itself damages them.
"""

from __future__ import annotations

import os

from MessageBroker.errors import ConfigurationError


class Opener:
    """The process that opened something. It alone may use it."""

    def __init__(self, what: str) -> None:
        """Note this process.

        Args:
            what: what it opens, as it shall stand in the error.
        """
        self._what = what
        self._process = os.getpid()

    @property
    def is_another_process(self) -> bool:
        """True in a child made by fork."""
        return os.getpid() != self._process

    def require(self) -> None:
        """Go on in the process that opened it.

        Raises:
            ConfigurationError: this is a child of that process.
        """
        if self.is_another_process:
            raise ConfigurationError(
                f"{self._what} was opened by process {self._process} and cannot be used in process "
                f"{os.getpid()}, its child: open one of your own in the child"
            )

"""SIGINT and SIGTERM while a command works: it closes what it has open, and tells what ended it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

# And the number of the signal that broke it off, as a shell tells it: 1 would be a verdict.
EXIT_SIGNALLED = 128

BROKEN_OFF = "broken off before its end"


class Interrupts:
    """Lets both raise `KeyboardInterrupt` where the command is.

    Attributes:
        got: the last that came; None if none has.
    """

    def __init__(self, *, in_background: bool = False) -> None:
        """Change nothing yet.

        Args:
            in_background: also where it was started to be left alone by Ctrl-C (`nohup`, `&`).
        """
        self.got: int | None = None
        self._in_background = in_background
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a command that was broken off ends with: 130 or 143."""
        return EXIT_SIGNALLED + (self.got or signal.SIGINT)

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM):
            if self._in_background or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.got = number
        raise KeyboardInterrupt

"""A disk that fails for a while, under what is kept in text files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from DurableText.storage import Storage

ALL = ("read", "append", "write", "sync")


class FaultyDisk(Storage):
    """A disk that fails with an error for a while."""

    def __init__(self) -> None:
        self._error = 0
        self._calls: tuple[str, ...] = ()

    @contextlib.contextmanager
    def failing(self, error: int, *calls: str) -> Iterator[None]:
        """Let some of its calls, or all, fail for a while."""
        self._error, self._calls = error, calls or ALL
        try:
            yield
        finally:
            self._error, self._calls = 0, ()

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._fail("read")
        return super().read(fd, size, offset)

    def append(self, fd: int, data: bytes | memoryview) -> int:
        self._fail("append")
        return super().append(fd, data)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._fail("write")
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._fail("sync")
        super().sync(fd)

    def _fail(self, call: str) -> None:
        if call in self._calls:
            raise OSError(self._error, os.strerror(self._error))

"""A copy of a text queue that is in use: every record that is not committed when it is made.

First the cursor is read, then all segments are opened. So the cursor may be behind: some records
come again. It is never ahead, and no segment that it needs was removed before.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from DurableText.copying import (
    ATTEMPTS,
    ChangedMeanwhileError,
    copy_file,
    copy_open,
    whole_lines,
)
from DurableText.storage import STORAGE
from Queue.text.cursor import FILE_BYTES, peek
from Queue.text.segment import QueuePaths, first_seq, list_sealed

# Between two looks, of which the first met a sealing or a removal.
PAUSE_SECONDS = 0.02


def copy_queue(log: Path, folder: Path) -> None:
    """Copy the queue at `log` into an empty folder, durably; waits for no lock.

    Raises:
        FileNotFoundError: there is no queue.
        OSError: it cannot be read, or the copy not be written.
    """
    paths = QueuePaths.of(log)
    for _ in range(ATTEMPTS):
        if _copy_once(paths, folder):
            return
        for left in folder.iterdir():
            STORAGE.unlink(left)
        time.sleep(PAUSE_SECONDS)
    raise ChangedMeanwhileError(f"{log}: segments come and go faster than they are copied")


def _copy_once(paths: QueuePaths, folder: Path) -> bool:
    """Copy; return False if a segment was sealed or removed meanwhile."""
    cursor = _cursor_of(paths.cursor)
    if cursor is not None:
        _write(folder / paths.cursor.name, cursor)
    elif not paths.log.exists() and not list_sealed(STORAGE, paths):
        raise FileNotFoundError(2, "there is no queue", str(paths.log))
    position = peek(STORAGE, folder / paths.cursor.name)
    with contextlib.ExitStack() as opened:
        segments = _open_all(opened, paths)
        if segments is None:
            return False
        first = next(filter(None, (first_seq(STORAGE, fd) for fd in segments.values())), None)
        if position is not None and first is not None and first > position.next_seq:
            return False  # what the cursor still needs had been removed before it was opened
        for path, fd in segments.items():
            end = whole_lines(fd)
            if copy_open(fd, folder / path.name, end) < end or not STORAGE.stat_open(fd).st_nlink:
                return False  # removed, since all of it is committed by now
    if paths.quarantine.exists():
        copy_file(paths.quarantine, folder / paths.quarantine.name)
    return True


def _open_all(opened: contextlib.ExitStack, paths: QueuePaths) -> dict[Path, int] | None:
    """Open the segments, the oldest first; return None if one was sealed or removed meanwhile."""
    segments: dict[Path, int] = {}
    log = None
    with contextlib.suppress(FileNotFoundError):  # sealed, or all of it is committed
        log = opened.enter_context(_reading(paths.log))
    for sealed in list_sealed(STORAGE, paths):
        try:
            segments[sealed.path] = opened.enter_context(_reading(sealed.path))
        except FileNotFoundError:
            return None
    if log is None:
        return None if paths.log.exists() else segments
    segments[paths.log] = log
    return segments if STORAGE.is_at(paths.log, log) else None


def _cursor_of(path: Path) -> bytes | None:
    try:
        fd = STORAGE.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return STORAGE.read(fd, FILE_BYTES, 0)
    finally:
        STORAGE.close(fd)


def _write(path: Path, data: bytes) -> None:
    fd = STORAGE.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        STORAGE.write(fd, data, 0)
        STORAGE.sync(fd)
    finally:
        STORAGE.close(fd)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[int]:
    fd = STORAGE.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        STORAGE.close(fd)

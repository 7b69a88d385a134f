"""The room that the log takes on the disk: set aside in time, counted, and given back when full."""

from __future__ import annotations

import contextlib
import logging
import os

from DurableText import codec
from DurableText.storage import Storage
from Queue.text import cursor, numbered_lines, place, segment
from Queue.text.segment import QueuePaths

logger = logging.getLogger(__name__)

# At most so much of the disk is set aside for a new log: a segment of the usual size.
RESERVED_BYTES = 1 << 20


def reserve(storage: Storage, paths: QueuePaths, fd: int, segment_bytes: int) -> None:
    """Set room aside for a new log, open as `fd`, and for what its first consumer needs.

    A consumer that comes when the disk is full could make neither its lock nor its cursor, and so
    not drain it.
    """
    storage.reserve(fd, min(segment_bytes, RESERVED_BYTES))
    with contextlib.suppress(OSError):  # it will say so itself
        for path, size in ((paths.cursor, cursor.FILE_BYTES), (paths.consumer_lock, 0)):
            beside = storage.open(path, os.O_RDWR | os.O_CREAT)
            try:
                if size:
                    storage.reserve(beside, size)
            finally:
                storage.close(beside)


def sealed_bytes(storage: Storage, paths: QueuePaths) -> int:
    """Return how many bytes all sealed segments have."""
    total = 0
    for sealed in segment.list_sealed(storage, paths):
        with contextlib.suppress(FileNotFoundError):  # a consumer has just removed it
            total += storage.stat(sealed.path).st_size
    return total


def remove_if_committed(storage: Storage, paths: QueuePaths, last_seq: int) -> bool:
    """Remove the log if consumers have committed all of it; return whether it did.

    On a disk that is smaller than a segment nothing else would ever make room: the log does not
    grow to the size at which it is sealed, and the newline that would end a torn last line needs a
    block as well.

    Args:
        storage: the layer for system calls.
        paths: the queue's files. The caller holds the producers' lock.
        last_seq: the last number that the caller has given to a record.
    """
    try:
        fd = storage.open(paths.log, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        size = storage.stat_open(fd).st_size
        two_lines = 2 * codec.MAX_LINE_BYTES
        tail = storage.read(fd, two_lines, max(0, size - two_lines))
    finally:
        storage.close(fd)
    whole, _, torn = tail.rpartition(b"\n")
    # Blank lines stand where others were torn. None if the last is damaged: it is to be told.
    last = numbered_lines.seq_of(whole.rstrip(b" \n").rpartition(b"\n")[2])
    done = cursor.peek(storage, paths.cursor)
    if not last or done is None or done.next_seq <= max(last, last_seq):
        return False
    logger.warning(
        "%s: the disk is full, and all records are committed; removing it to make room, "
        "with a torn line of %d bytes at its end",
        paths.log,
        len(torn),
    )
    # Its numbers are in the cursor. The other name is for a kill before it is gone.
    spent = paths.void(last, storage.stat(paths.log).st_ino)
    storage.rename(paths.log, spent)
    place.put_away(storage, spent)
    return True

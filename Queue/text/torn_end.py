"""What a producer does with the end of the log that was torn off; see `DurableText.torn_end`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from DurableText import codec
from DurableText.quarantine import CorruptLine, Quarantine
from DurableText.storage import Storage
from DurableText.torn_end import blank, torn_from, was_cut_short
from Queue.text import segment
from Queue.text.segment import QueuePaths

logger = logging.getLogger(__name__)


def heal(storage: Storage, paths: QueuePaths, fd: int, size: int) -> int:
    """Let the log end in a newline; return its size then.

    What another producer left, which was killed, is kept in the quarantine first.

    Args:
        storage: does it.
        paths: of the queue.
        fd: of the log, opened with O_APPEND.
        size: of the log.

    Raises:
        OSError: the disk refused.
    """
    if not size or storage.read(fd, 1, size - 1) == b"\n":
        return size
    torn = torn_from(lambda length, offset: storage.read(fd, length, offset), 0, size)
    raw = storage.read(fd, codec.MAX_LINE_BYTES + 1, torn)
    if len(raw) > codec.MAX_LINE_BYTES or not was_cut_short(raw, codec.SEQ_PREFIX):
        # A whole record that lacks its newline; or damage, which readers tell, and have perhaps.
        storage.append(fd, b"\n")
        logger.warning("%s: the last line had no newline at byte %d", paths.log, size)
        return size + 1
    reason = "torn off while it was written, and nobody was told of it"
    line = CorruptLine(raw, paths.log.name, segment.first_seq(storage, fd) or 0, torn, reason)
    Quarantine(paths.quarantine, storage).keep([line], logging.WARNING)
    with _for_overwriting(storage, paths) as overwriting:
        blank(storage, overwriting, torn, size)
    return size


def blank_own(storage: Storage, paths: QueuePaths, torn: int, size: int) -> bool:
    """Blank what this producer has just failed to write as a whole; False if that failed too.

    Args:
        storage: does it.
        paths: of the queue.
        torn: where it begins.
        size: of the log.
    """
    if torn < size:
        try:
            with _for_overwriting(storage, paths) as overwriting:
                blank(storage, overwriting, torn, size)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _for_overwriting(storage: Storage, paths: QueuePaths) -> Iterator[int]:
    fd = storage.open(paths.log, os.O_RDWR)
    try:
        yield fd
    finally:
        storage.close(fd)

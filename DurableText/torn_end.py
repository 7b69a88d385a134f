"""The end of a text that was torn off: a line without its newline, of which nobody was told.

A kill or a full disk ends a write in the middle of a line. What is behind the last newline was
never confirmed, and no reader has taken it: it is no damage, unless it is not how a line begins. It
is overwritten with blanks and a newline: readers pass over blank lines, nothing is cut off under a
reader, and overwriting needs no new block, so that it works on a full disk too.
"""

from __future__ import annotations

from collections.abc import Callable

from DurableText.codec import CHUNK_BYTES
from DurableText.storage import Storage, write_all

# Longest line of blanks that takes the place of a torn end.
BLANK_LINE_BYTES = 64 * 1024


def torn_from(read: Callable[[int, int], bytes], start: int, size: int) -> int:
    """Return where the last line without a newline begins; `size` if there is none.

    Args:
        read: is given a size and an offset, and returns bytes of the file.
        start: where a line begins.
        size: of the file.
    """
    offset = size
    while offset > start:
        step = min(CHUNK_BYTES, offset - start)
        newline = read(step, offset - step).rfind(b"\n")
        if newline >= 0:
            return offset - step + newline + 1
        offset -= step
    return start


def was_cut_short(raw: bytes, prefix: bytes) -> bool:
    """Tell whether this may be a line of which the rest was never written; else it is damage.

    Args:
        raw: what stands behind the last newline.
        prefix: with which lines begin.
    """
    begins = raw.startswith(prefix) or prefix.startswith(raw)
    _, suffix, checksum = raw.rpartition(b',"crc":"')
    return begins and b"\0" not in raw and (not suffix or len(checksum) < len(b'xxxxxxxx"}'))


def blank(storage: Storage, fd: int, torn: int, size: int) -> None:
    """Overwrite a torn end.

    Args:
        storage: does it.
        fd: of the file, opened without O_APPEND.
        torn: see `torn_from`.
        size: of the file.

    Raises:
        OSError: it was not, or in part.
    """
    while torn < size:
        length = min(BLANK_LINE_BYTES, size - torn)
        write_all(storage, fd, b" " * (length - 1) + b"\n", torn)
        torn += length

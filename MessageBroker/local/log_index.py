"""SQLite's log and the index of it, held against each other: neither is an older copy.

SQLite takes the index for what it says. Over an older one it would write anew where confirmed
transactions stand, and out of an older log it would read what was there before. But the index names
the last frame of the log and its checksum, and it only goes forward: within a log by frames, and
from one to the next by a number, the first half of its salt.

https://www.sqlite.org/walformat.html#the_wal_index_file_format
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

# The index begins with its header, twice. Of 48 bytes, in the machine's own order: the size of a
# page from 14, the last frame from 16, its checksum from 24, the log's salt from 32, as in the log.
_HEADER_BYTES = 48
_HEADER = struct.Struct("=14xHI4xII8s8x")
_SALT_NUMBER = struct.Struct(">I4x")
# The log: a header, then frames of a header and a page each; their checksum is at the header's end.
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_CHECKSUM = struct.Struct(">16xII")
# A size of 65,536 does not fit, and is written as 1.
_LARGEST_PAGE = 65_536
# The number of a log wraps. One that is farther away is no earlier one: where a log was begun and
# nothing written, the next writer takes a number at random.
_NUMBERS = 1 << 32
_FAR = 1 << 20


@dataclass(frozen=True)
class LogEnd:
    """The end of the log, as the index has it.

    Attributes:
        number: which log this is, one more each time it begins anew.
        frames: how many there are in it.
    """

    number: int
    frames: int

    def is_before(self, other: LogEnd) -> bool:
        """Tell whether SQLite can only have been here before it was there."""
        behind = (other.number - self.number) % _NUMBERS
        return 0 < behind < _FAR or (not behind and self.frames < other.frames)


def end_of(index: int) -> LogEnd | None:
    """Read where the log ends; None while somebody writes it, or begins it anew.

    Args:
        index: a descriptor.
    """
    header = _header(index)
    if header is None:
        return None
    _, frames, _, _, salt = _HEADER.unpack(header)
    (number,) = _SALT_NUMBER.unpack(salt)
    return LogEnd(number, frames) if frames else None


def is_of_another(log: int, index: int) -> bool:
    """Tell whether the last frame of the log is not the one that the index names.

    Args:
        log: a descriptor.
        index: another.
    """
    header = _header(index)
    if header is None:
        return False
    page, frames, *checksum, _ = _HEADER.unpack(header)
    if not frames:
        return False  # it begins anew: what is there is of the one before
    page = _LARGEST_PAGE if page == 1 else page
    place = _LOG_HEADER_BYTES + (frames - 1) * (page + _FRAME_HEADER_BYTES)
    frame = os.pread(log, _FRAME_HEADER_BYTES, place)
    if len(frame) == _FRAME_HEADER_BYTES and _CHECKSUM.unpack(frame) == tuple(checksum):
        return False
    return header == _header(index)  # else others went on meanwhile


def _header(index: int) -> bytes | None:
    both = os.pread(index, 2 * _HEADER_BYTES, 0)
    first, second = both[:_HEADER_BYTES], both[_HEADER_BYTES:]
    return first if first == second and len(first) == _HEADER_BYTES else None

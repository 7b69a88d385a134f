"""Reading the lines of a file of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from DurableText import codec

CHUNK_BYTES = 1 << 20
"""How much is read at a time."""


def scan(
    read: Callable[[int, int], bytes], start: int, end: int, longest: int = codec.MAX_LINE_BYTES
) -> Iterator[tuple[int, list[bytes]]]:
    """Yields whole lines between two offsets, in groups: the first one's offset, and the lines.

    What stands behind the last newline is not yielded, except for damage: a piece longer than any
    line comes in parts.

    Args:
        read: is given a size and an offset, and returns so many bytes of the file, fewer at its
            end.
        start: where a line begins.
        end: where to stop.
        longest: no line of the file has more bytes.
    """
    offset, rest = start, b""
    while offset < end:
        data = read(min(CHUNK_BYTES, end - offset), offset)
        if not data:
            return
        begin = offset - len(rest)
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield begin, lines
        elif len(rest) > longest:
            yield begin, [rest]
            rest = b""

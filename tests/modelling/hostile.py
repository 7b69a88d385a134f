"""Pictures that strangers might send to hurt: each a few lines of bytes, made here."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def lossless_jpeg(width: int, height: int) -> bytes:
    """A grey JPEG of coding SOF3 (T.81, H): every sample is predicted without a difference.

    libjpeg-turbo 3 decodes it, but does not scale it: whoever shrank the row buffer, trusting
    that it would, is written past.
    """
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    table = bytes([0, 1, *[0] * 15, 0])  # one code of one bit: no difference
    scan = bytes([1, 1, 0, 1, 0, 0])  # predictor 1
    parts = [b"\xff\xd8"]
    for marker, body in ((0xC3, frame), (0xC4, table), (0xDA, scan)):
        parts.append(struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body)
    return b"".join([*parts, bytes(width * height // 8 + 1), b"\xff\xd9"])


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, is there thousands of times."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 200).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def png_chunk(name: bytes, body: bytes, *, crc: int | None = None) -> bytes:
    """A chunk of a PNG; with a wrong CRC if one is given."""
    right = zlib.crc32(name + body)
    return (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", right if crc is None else crc)
    )


def with_png_chunks(png: bytes, *chunks: bytes, behind: bool = False) -> bytes:
    """Insert chunks behind a PNG's header, or in front of its end."""
    place = len(png) - 12 if behind else 33
    return png[:place] + b"".join(chunks) + png[place:]


def png_of_repeated_exif_headers(png: bytes, repeats: int) -> bytes:
    """A PNG whose one `eXIf` begins again and again: taking the headers off is quadratic."""
    return with_png_chunks(png, png_chunk(b"eXIf", b"Exif\0\0" * repeats))

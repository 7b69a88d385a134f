"""The optional parts of a picture: one of them, the orientation, is wanted, and none may cost it.

Cameras, scanners and programs write EXIF that cannot be parsed, orientations as text, megabytes of
prompts and profiles, checksums that are wrong. The pixels count. So the orientation is looked up
here, in a bounded time, and what cannot be read means upright; of a PNG Pillow only gets the
chunks that make its pixels.
"""

from __future__ import annotations

import re
import struct
import zlib

# Tag of EXIF's orientation, and the types in which it is found: byte, text, 16 bits, 32 bits.
ORIENTATION = 0x0112
UPRIGHT = 1
EXIF_TYPES = {1: "B", 3: "H", 4: "I"}
EXIF_TEXT = 2

# Entries of a directory of EXIF that are looked at. Cameras write about 20 into the first.
MAX_ENTRIES = 1000

# Bytes of a text chunk in which an orientation is looked for; XMP of cameras has a few thousand.
MAX_TEXT = 200_000

XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
XMP_KEY = b"XML:com.adobe.xmp\0"
RAW_EXIF_KEY = b"Raw profile type exif\0"

PNG_SIGNATURE_BYTES = 8
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
TEXT_CHUNKS = frozenset({b"iTXt", b"tEXt", b"zTXt"})


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from EXIF's first directory; 1 where it cannot be read.

    Source: CIPA DC-008 (Exif 2.3), 4.6.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for place in range(directory + 2, directory + 2 + 12 * min(entries, MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == ORIENTATION:
                return _orientation(exif[place + 8 : place + 12], kind, order)
    except struct.error:
        pass  # cut off, or it points beyond its end
    return UPRIGHT


def _orientation(value: bytes, kind: int, order: str) -> int:
    if kind == EXIF_TEXT:
        text = value.strip(b"\0 ")
        return int(text) if text.isdigit() and 1 <= int(text) <= 8 else UPRIGHT
    if kind not in EXIF_TYPES:
        return UPRIGHT
    (number,) = struct.unpack_from(order + EXIF_TYPES[kind], value)
    return int(number) if 1 <= number <= 8 else UPRIGHT


def xmp_orientation(xmp: bytes) -> int:
    """Read the orientation, 1 to 8, from a packet of XMP; 1 where there is none."""
    found = XMP_ORIENTATION.search(xmp[:MAX_TEXT])
    return int(found[1]) if found else UPRIGHT


def png_pixels(png: bytes) -> tuple[bytes, int]:
    """Take from a PNG what makes its pixels, and its orientation.

    Chunks of text, profiles, times and animations are left out, whatever is wrong with them.

    Returns:
        The PNG without them, the very same if it has none, and the orientation, 1 to 8.
    """
    kept = [png[:PNG_SIGNATURE_BYTES]]
    orientation, place, left_out = UPRIGHT, PNG_SIGNATURE_BYTES, False
    while place + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        name, end = png[place + 4 : place + 8], place + 12 + length
        if name in PIXEL_CHUNKS or end > len(png):
            kept.append(png[place:end])
        else:
            left_out = True
            if orientation == UPRIGHT and length <= MAX_TEXT:
                orientation = _orientation_in_chunk(name, png[place + 8 : end - 4])
        if name == b"IEND":
            break
        place = end
    return (b"".join(kept) if left_out else png), orientation


def _orientation_in_chunk(name: bytes, body: bytes) -> int:
    if name == b"eXIf":
        return exif_orientation(body)
    if name in TEXT_CHUNKS and body.startswith(XMP_KEY):
        return xmp_orientation(body)
    if name in TEXT_CHUNKS and body.startswith(RAW_EXIF_KEY):
        return exif_orientation(_raw_profile(name, body.removeprefix(RAW_EXIF_KEY)))
    return UPRIGHT


def _raw_profile(name: bytes, text: bytes) -> bytes:
    """Decode a profile as ImageMagick writes it: its name, its length, and it in hexadecimal."""
    try:
        if name == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], MAX_TEXT)
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except (ValueError, zlib.error):
        return b""

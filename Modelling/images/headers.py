"""What a picture's first bytes tell: its format, and whether a decoder's shortcut is safe on it.

Nothing here decodes. Each look is bounded by the length of the data, and what is not understood
counts as the worse case: no shortcut is taken that the bytes do not show to be supported.
"""

from __future__ import annotations

import struct

from Modelling.errors import ImageError

JPEG, PNG, GIF, WEBP, TIFF, BMP = "JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"
AVIF, JPEG2000, HEIF = "AVIF", "JPEG2000", "HEIF"

# First bytes by format; WebP and the formats in boxes (AVIF, HEIC) are looked at more closely.
SIGNATURES = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG2000),
    (b"\xff\x4f\xff\x51", JPEG2000),
)

# Brands of ISO/IEC 14496-12 `ftyp` boxes. `mif1` and `msf1` hold either: their other brands tell.
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

# JPEG's markers (ITU-T T.81, table B.1): the frame codings that libjpeg-turbo scales while it
# decodes (baseline, extended, progressive; Huffman), and the others, which it does not.
SCALABLE_CODINGS = frozenset({0xC0, 0xC1, 0xC2})
CODINGS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA
MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})

# Scans of a JPEG. Encoders write 1 to 14; each costs a pass over all pixels, however short it is.
MAX_SCANS = 100


def format_of(data: bytes) -> str | None:
    """Tell a picture's format by its first bytes, by Pillow's name; None if it is none of ours."""
    for signature, name in SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        (length,) = struct.unpack(">I", data[:4])
        brands = {data[8:12], *(data[i : i + 4] for i in range(16, min(length, 256), 4))}
        if brands & AVIF_BRANDS:
            return AVIF
        return HEIF if brands & HEIF_BRANDS else None
    return None


def jpeg_can_be_scaled(data: bytes) -> bool:
    """Tell whether libjpeg can decode a JPEG at a fraction of its size.

    Only if its header, read strictly, holds one frame of a coding that is known to be scaled.
    libjpeg-turbo 3 decodes lossless JPEG (SOF3) too, but at full size only, whatever it was asked
    for: a caller that has shrunk its buffers is written past.
    """
    coding, _ = _jpeg_header(data)
    return coding in SCALABLE_CODINGS


def refuse_many_scans(data: bytes) -> None:
    """Refuse a JPEG of more scans than any encoder writes.

    Raises:
        ImageError: There are more than 100.
    """
    _, end = _jpeg_header(data)
    # Inside a scan this pair of bytes cannot occur: a 0 is stuffed behind each 255.
    scans = data.count(b"\xff\xda", max(end, 0))
    if scans > MAX_SCANS:
        raise ImageError("JPEG of too many scans", f"{scans:,}, more than {MAX_SCANS}")


def _jpeg_header(data: bytes) -> tuple[int | None, int]:
    """Read the markers up to the first scan.

    Returns:
        The coding of the only frame, None if there is none, several, or anything odd before the
        first scan; and where that scan begins, or 0.
    """
    codings: list[int] = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in MARKERS_WITHOUT_LENGTH:
            place += 2
            continue
        if marker == START_OF_SCAN:
            return (codings[0] if len(codings) == 1 else None), place
        if marker in CODINGS:
            codings.append(marker)
        (length,) = struct.unpack_from(">H", data, place + 2)
        if length < 2:
            break
        place += 2 + length
    return None, 0

"""What decoding a picture takes, by its header: too much is refused before anything is decoded.

A decoded picture takes up to 4 bytes a pixel, and some decoders take more beside it.
"""

from __future__ import annotations

from typing import Any

from Modelling.errors import ImageError
from Modelling.images import headers
from Modelling.images.metadata import ORIENTATION, UPRIGHT

# Memory that decoding one picture may take.
MAX_DECODING_BYTES = 400_000_000

# Bytes a pixel that decoders hold beside the picture itself. WebP: an animation's canvas, the frame
# before it and a copy. AVIF and HEIC: planes of up to 16 bits, and what they become. JPEG 2000:
# whole numbers of 32 bits for each of up to four components, and the wavelet's.
BESIDE_BYTES = {headers.WEBP: 12, headers.AVIF: 12, headers.HEIF: 12, headers.JPEG2000: 20}

# Tags of TIFF, by their numbers.
TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP = 322, 323, 278
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, PHOTOMETRIC, YCBCR = 258, 277, 262, 6


def memory_for(image: Any, kind: str, coefficients: int, enough: int | None) -> int:
    """Estimate the bytes that decoding a picture takes.

    Args:
        image: As Pillow opens it: nothing of it is decoded yet.
        kind: The picture's format, one of `headers`.
        coefficients: Bytes, of `jpeg_coefficients`.
        enough: See `decoding.decode_image`; None if all pixels are wanted.

    Raises:
        ImageError: They are too many.
    """
    width, height = image.size
    picture = width * height * _bytes_per_pixel(image.mode)
    needed: int = picture + coefficients + width * height * BESIDE_BYTES.get(kind, 0)
    if not enough:
        needed += width * height * len(image.getbands())  # the array, beside Pillow's picture
    if kind == headers.TIFF:
        needed += _tiff_buffer(image)
        if image.tag_v2.get(ORIENTATION, UPRIGHT) != UPRIGHT:
            needed += picture  # Pillow turns it while it loads it
    if needed > MAX_DECODING_BYTES:
        raise ImageError(
            f"image of more than {MAX_DECODING_BYTES / 1e6:,.0f} MB",
            f"{width} x {height} pixels, as this kind of {kind} it takes {needed / 1e6:,.0f} MB to "
            f"decode: send it as a baseline JPEG, or with at most "
            f"{width * height * MAX_DECODING_BYTES / needed / 1e6:.0f} million pixels",
        )
    return needed


def _bytes_per_pixel(mode: str) -> int:
    """Tell what Pillow stores."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def jpeg_coefficients(image: Any) -> int:
    """Tell the bytes that a progressive JPEG's decoder holds, of whatever size it is decoded at."""
    if image.format != headers.JPEG or "progressive" not in image.info:
        return 0
    width, height = image.size
    layers = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]
    largest = max(horizontal for horizontal, _ in layers) * max(vertical for _, vertical in layers)
    samples = sum(horizontal * vertical for horizontal, vertical in layers) / max(1, largest)
    return int(2 * width * height * samples)


def _tiff_buffer(image: Any) -> int:
    """Tell the bytes that a compressed TIFF's strip or tile is unpacked into, by its header."""
    if not image.tile or image.tile[0][0] != "libtiff":
        return 0
    tags = image.tag_v2
    width, height = image.size
    if TILE_WIDTH in tags or TILE_LENGTH in tags:
        pixels = int(tags.get(TILE_WIDTH, width)) * int(tags.get(TILE_LENGTH, height))
    else:
        pixels = width * min(int(tags.get(ROWS_PER_STRIP, height)), height)
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    bytes_per_pixel = int(tags.get(SAMPLES_PER_PIXEL, 1)) * int(max(bits)) / 8
    if tags.get(PHOTOMETRIC) == YCBCR:
        bytes_per_pixel += 4  # it is made RGBA at once
    return int(pixels * bytes_per_pixel)

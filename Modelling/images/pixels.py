"""What pixels may be: how many, and in which range of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError

Pixels = npt.NDArray[np.float32]

# Largest image: a telephone's best cameras give 50 million pixels. 64 million take 256 MB; what
# takes more to decode has a lower limit, see `pillow_decoding`.
MAX_PIXELS = 64_000_000

# Longest side, in pixels; what JPEG allows.
MAX_SIDE = 65_535

# How far floats may miss [0, 1]: bicubic resampling and rounding leave such.
OVERSHOOT = 0.01

# What white may be where pixels are wider than 8 bits, the smallest first.
FLOAT_WHITES = (255, 65_535)
INTEGER_WHITES = (255, 1023, 4095, 16_383, 65_535)


def check_size(width: int, height: int) -> None:
    """Refuse images without pixels, and with too many.

    Raises:
        ImageError: With the limit.
    """
    if width < 1 or height < 1:
        raise ImageError(f"image of {width} x {height} pixels: empty")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"image of {width} x {height} pixels: more than {MAX_PIXELS:,}, or a side longer than "
            f"{MAX_SIDE:,}"
        )


def unit_range(pixels: npt.NDArray[Any]) -> Pixels:
    """Scale pixels of any kind to float32 in [0, 1].

    Bool is black and white. 8-bit pixels are divided by 255. Of wider types nobody wrote down what
    white is; see `white_of`. Floats may miss [0, 1] by 0.01, as resampling leaves them: they are
    cut off there.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond 65,535.
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.float32)
    low, high = pixels.min(), pixels.max()
    white = white_of(low, high, pixels.dtype)
    scaled: Pixels = pixels.astype(np.float32) / np.float32(white)
    return np.clip(scaled, 0, 1) if low < 0 or high > white else scaled


def white_of(low: Any, high: Any, dtype: np.dtype[Any]) -> float:
    """Guess what white is in an image of a type wider than 8 bits.

    It is the smallest of these that covers the image: for integers what cameras' and scanners'
    converters of 8, 10, 12, 14 and 16 bits reach, or the type's maximum; for floats 1, 255, 65,535.

    Args:
        low: The least of its pixels.
        high: The greatest.
        dtype: Their type.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond the last of these.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("array with NaN or infinite pixels")
    floats = dtype.kind == "f"
    if low < (-OVERSHOOT if floats else 0):
        raise ImageError(f"array with negative pixels (down to {low:g})")
    if floats and high <= 1 + OVERSHOOT:
        return 1
    whites = FLOAT_WHITES if floats else (*INTEGER_WHITES, int(np.iinfo(dtype).max))
    for white in whites:
        if high <= white:
            return white
    raise ImageError(f"array with pixels up to {high:g}: floats are [0, 1], [0, 255] or [0, 65535]")

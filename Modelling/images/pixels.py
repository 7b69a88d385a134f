"""What pixels may be: how many, and in which range of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError

Pixels = npt.NDArray[np.float32]

# Largest image: a telephone's best cameras give 50 million pixels. 64 million take 256 MB; what
# takes more to decode has a lower limit, see `decoding_memory`.
MAX_PIXELS = 64_000_000

# Longest side, in pixels; what JPEG allows.
MAX_SIDE = 65_535

# Of a network's input, for one picture: 8192 x 8192 in grey. Eight are made to try a network out.
MAX_INPUT_VALUES = 64 << 20

# How far floats may miss their range, of white: bicubic resampling leaves up to a tenth.
OVERSHOOT = 0.1001

# What white may be in arrays, the smallest first, where nobody says it: of floats 1, scikit-learn's
# 16, bytes, 16 bits; of integers also 0 and 1, and what converters of 10, 12 and 14 bits reach.
FLOAT_WHITES = (1, 16, 255, 65_535)
INTEGER_WHITES = (1, 16, 255, 1023, 4095, 16_383, 65_535)

# The largest value of a mask: bytes of nothing but 0 and 1, as a comparison of arrays gives them.
# Pixels of a picture, of which 255 is white, are never all so dark.
MASK = 1

# Share of the pixels, or at least one of them, that may be brighter than white: a hot pixel or a
# glint must not decide how bright all others are. Of few pixels each counts.
GLINTS = 0.001
FEW_PIXELS = 16

# The largest white that a user may name.
MAX_WHITE = 2**64


def check_size(width: int, height: int) -> None:
    """Refuse images without pixels, and with too many.

    Raises:
        ImageError: With the limit.
    """
    if width < 1 or height < 1:
        raise ImageError("empty image", f"{width} x {height} pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"image of more than {MAX_PIXELS:,} pixels, or with a side longer than {MAX_SIDE:,}",
            f"{width} x {height}",
        )


def is_mask(pixels: npt.NDArray[Any]) -> bool:
    """Tell whether an array of bytes holds nothing but 0 and 1, and both or 1 alone."""
    return pixels.dtype == np.uint8 and bool(pixels.size) and int(pixels.max()) == MASK


def unit_range(pixels: npt.NDArray[Any], white: float | None = None) -> Pixels:
    """Scale pixels of any kind to float32 in [0, 1].

    Args:
        pixels: Bool is black and white, 8 bits end at 255. Of wider types nobody wrote down what
            white is; see `white_of`. What misses the range is cut off.
        white: The value that is white, of whatever type, if it is known.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond 65,535.
    """
    if pixels.dtype.kind == "b":
        return pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        if white is None or white == 255:
            return pixels.astype(np.float32) / np.float32(255)
    elif white is None:
        white = white_of([pixels])
    else:
        _Brightness().add(pixels).check(white)
    return np.clip(pixels.astype(np.float32) / np.float32(white), 0, 1)


def white_of(parts: Iterable[npt.NDArray[Any]]) -> float:
    """Guess what white is in an image of a type wider than 8 bits.

    It is the smallest value of a list that covers the image, but for one pixel in a thousand: for
    integers what 1 bit, scikit-learn's digits, and converters of 8, 10, 12, 14 and 16 bits reach,
    or the type's maximum; for floats 1, 16, 255 or 65,535, which a tenth may be missing from.

    Args:
        parts: The image, whole or in strips.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond the last of these.
    """
    brightness = _Brightness()
    for part in parts:
        brightness.add(part)
    white = brightness.white()
    brightness.check(white)
    return white


class _Brightness:
    """What is counted of an image's pixels, strip by strip, to tell their white."""

    def __init__(self) -> None:
        self._pixels = 0
        self._low = self._high = 0.0
        self._whites: tuple[float, ...] = ()
        self._above: list[int] = []
        self._tolerance = 1.0

    def add(self, part: npt.NDArray[Any]) -> _Brightness:
        """Count a strip's pixels."""
        if not self._whites:
            floats = part.dtype.kind == "f"
            self._tolerance = 1 + OVERSHOOT if floats else 1
            self._whites = FLOAT_WHITES if floats else _integer_whites(part.dtype)
            self._above = [0] * len(self._whites)
        if part.dtype == np.float16:
            part = part.astype(np.float32)  # whose whites its own range does not reach
        low, high = part.min(), part.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ImageError("array with NaN or infinite pixels")
        for i, white in enumerate(self._whites):
            if high <= white * self._tolerance:
                break
            self._above[i] += int(np.count_nonzero(part > white * self._tolerance))
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
        self._pixels += part.size
        return self

    def white(self) -> float:
        """Choose the smallest white that covers all but a few pixels."""
        glints = 0 if self._pixels < FEW_PIXELS else max(1, int(self._pixels * GLINTS))
        return next(
            (
                white
                for white, above in zip(self._whites, self._above, strict=True)
                if above <= glints
            ),
            self._whites[-1],
        )

    def check(self, white: float) -> None:
        """Refuse what is no brightness.

        Raises:
            ImageError: Negative, or floats beyond 65,535.
        """
        if self._low < -(self._tolerance - 1) * white:
            raise ImageError("array with negative pixels", f"down to {self._low:g}")
        if self._high > max(white, self._whites[-1]) * self._tolerance:
            raise ImageError(
                "array with pixels above all that white may be",
                f"up to {self._high:g}; floats are [0, 1], [0, 16], [0, 255] or [0, 65535]",
            )


def _integer_whites(dtype: np.dtype[Any]) -> tuple[float, ...]:
    most = int(np.iinfo(dtype).max)
    return (*(white for white in INTEGER_WHITES if white < most), most)

"""Large pictures made smaller strip by strip, so that no second copy of them fills the memory.

Blocks of whole pixels are averaged. What Pillow does to a whole picture (convert, reduce, turn)
takes as much memory again as the picture; here it is done to a million pixels at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.images.pixels import unit_range, white_of

# Pixels of a strip: 4 MB of RGBA.
STRIP_PIXELS = 1_000_000

# By how much width and height are reduced.
Factors = tuple[int, int]

WHOLE: Factors = (1, 1)


def factors_for(width: int, height: int, enough: int | None, *, proportional: bool) -> Factors:
    """Choose how much a picture may be reduced.

    Args:
        width: Of the picture, in pixels.
        height: Likewise.
        enough: Pixels that a side keeps at least, if it has so many; None for all.
        proportional: Reduce both sides alike, until the longer one has `enough` (a side of few
            pixels stays as it is); otherwise each for itself.
    """
    if not enough:
        return WHOLE
    if proportional:
        factor = max(1, max(width, height) // enough)
        return min(factor, width), min(factor, height)
    return max(1, width // enough), max(1, height // enough)


def strips(width: int, height: int, factors: Factors) -> Iterator[tuple[int, int]]:
    """Yield each strip's first row and the row after its last: whole blocks, but for the last."""
    rows = max(1, STRIP_PIXELS // (width * factors[1])) * factors[1]
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def reduced_array(
    image: npt.NDArray[Any], factors: Factors, white: float | None = None
) -> npt.NDArray[Any]:
    """Average blocks of an array of any type that `unit_range` takes.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4).
        factors: By how much width and height are reduced.
        white: What is white in it, if it is known.

    Returns:
        uint8 for uint8 and for all of several channels, else float32 in [0, 1].

    Raises:
        ImageError: See `unit_range`.
    """
    from PIL import Image

    height, width = image.shape[:2]
    plain = image.dtype.kind == "b" or (image.dtype == np.uint8 and white in (None, 255))
    if white is None and not plain:
        white = white_of([image])  # of the whole image: a strip may be dark
    parts = []
    for top, bottom in strips(width, height, factors):
        strip = image[top:bottom]
        if image.dtype.kind == "b" or not plain:
            strip = unit_range(strip, white)
        if strip.dtype != np.uint8 and strip.ndim == 3:
            strip = (strip * 255).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(strip))
        parts.append(np.asarray(picture.reduce(factors)))
    return np.concatenate(parts)

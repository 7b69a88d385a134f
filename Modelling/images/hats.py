"""What is thin on a picture, dark or light, whatever the light on it: top hats.

The closing of a picture by a square fills all that is dark and narrower than the square, and keeps
all else: the two sides of a shadow's edge, a table beside a sheet. What it filled is the black top
hat; the white one is the same of light things (Meyer, 1979; Serra, "Image Analysis and Mathematical
Morphology", 1982). Strokes are thin; paper, tables and shadows are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

# Side of the square, as a share of the picture's shorter side. The broadest strokes, on a digit
# that fills the picture, have a fourth; a sheet that leaves 150 of 480 pixels at two sides, 0.37.
SQUARE = 0.33

# Added to brightness before its logarithm is taken, of 1: noise has no logarithm.
DARKNESS = 0.05

# The logarithm of brightness in 255 steps: a shadow makes all that lies in it darker by as many.
_LOGARITHMS = np.log1p(np.arange(256) / (255 * DARKNESS))
LOGARITHM: Bytes = np.rint(255 * _LOGARITHMS / _LOGARITHMS[-1]).astype(np.uint8)


@dataclass(frozen=True)
class Hat:
    """What is thin and dark, or thin and light, in one channel.

    Attributes:
        channel: Its number.
        sign: 1 for dark, -1 for light.
        pixels: (H, W), the channel.
        level: (H, W), the logarithm of its brightness.
        height: (H, W), how much darker or lighter than its surroundings a pixel is, in the same
            steps; 0 for what is not thin.
        surroundings: (H, W), their brightness, of 255.
    """

    channel: int
    sign: int
    pixels: Bytes
    level: Bytes
    height: Bytes
    surroundings: Bytes


def hats_of(picture: Bytes) -> Iterator[Hat]:
    """Make the hats of (H, W, C): two for each channel."""
    side = max(3, round(SQUARE * min(picture.shape[:2])))
    for channel in range(picture.shape[2]):
        pixels = np.ascontiguousarray(picture[..., channel])
        level = LOGARITHM[pixels]
        for sign in (1, -1):
            surroundings = closing(pixels, side) if sign > 0 else ~closing(~pixels, side)
            height = (
                LOGARITHM[surroundings] - level if sign > 0 else level - LOGARITHM[surroundings]
            )
            yield Hat(channel, sign, pixels, level, height, surroundings)


def closing(pixels: Bytes, side: int) -> Bytes:
    """Close (H, W) by a square; beyond the border the picture goes on as it ends there."""
    closed = np.pad(pixels, side - 1, mode="edge")
    for operation in (np.maximum, np.minimum):
        for axis in (0, 1):
            closed = _over_windows(closed, side, operation, axis)
    return closed


def _over_windows(pixels: Bytes, side: int, operation: np.ufunc, axis: int) -> Bytes:
    """Take the maximum, or minimum, of each window of so many pixels, by doubling the window."""
    window = 1
    while window < side:
        step = min(window, side - window)
        length = pixels.shape[axis] - step
        first, second = slice(0, length), slice(step, None)
        pixels = (
            operation(pixels[first], pixels[second])
            if axis == 0
            else operation(pixels[:, first], pixels[:, second])
        )
        window += step
    return pixels

"""The range in which a model wants its pixels, if that is not [0, 1].

All pixels are prepared in [0, 1]. A model that was trained on [0, 255] or [-1, 1] is given
`pixels * scale + offset`: by its side file, or by what it does with them (`range_probe`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Modelling.images.pixels import Pixels


@dataclass(frozen=True)
class InputRange:
    """Maps [0, 1] to what a model was trained on.

    Attributes:
        scale: One factor, or one per channel.
        offset: What is added after it, likewise.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)

    def apply(self, pixels: Pixels) -> Pixels:
        """Map (N, H, W, C) float32 in [0, 1]; pixels that stay as they are cost nothing."""
        if self == UNIT:
            return pixels
        return pixels * np.array(self.scale, np.float32) + np.array(self.offset, np.float32)

    @property
    def pairs(self) -> list[list[float]]:
        """What black and white become: `[low, high]`, once or for each channel."""
        count = max(len(self.scale), len(self.offset))
        scales, offsets = self.scale * count, self.offset * count
        return [[offsets[i], offsets[i] + scales[i]] for i in range(count)]

    def __str__(self) -> str:
        return ", ".join(f"[{low:g}, {high:g}]" for low, high in self.pairs)


def range_of_pairs(pairs: Sequence[tuple[float, float]]) -> InputRange:
    """Make the range that maps black and white to `low` and `high`, once or for each channel.

    Raises:
        ValueError: They are no such pairs.
    """
    if not all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in pairs):
        raise ValueError("an input range is a low and a higher number, as in 0,255")
    return InputRange(tuple(high - low for low, high in pairs), tuple(low for low, _ in pairs))


def parse_input_range(text: str) -> InputRange:
    """Read an option such as `0,255` or `-1,1`.

    Raises:
        ValueError: It is none.
    """
    low, _, high = text.partition(",")
    try:
        pair = float(low), float(high)
    except ValueError:
        raise ValueError(f"{text!r} is no input range; give two numbers, as in 0,255") from None
    return range_of_pairs([pair])


def input_range_option(text: str) -> InputRange:
    """Read an option of argparse's; see `parse_input_range`."""
    try:
        return parse_input_range(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


UNIT = InputRange()

# [0, 255], as images are loaded by `keras.utils` and most tutorials.
BYTES = InputRange(scale=(255.0,))

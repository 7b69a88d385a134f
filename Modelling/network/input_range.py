"""The range in which a model wants its pixels, if that is not [0, 1].

All pixels are prepared in [0, 1]. A model that was trained on [0, 255] or [-1, 1] is given
`pixels * scale + offset`: by its side file, or by what its first layer tells (`keras_models`).
"""

from __future__ import annotations

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


# [0, 255], as images are loaded by `keras.utils` and most tutorials.
UNIT = InputRange()
BYTES = InputRange(scale=(255.0,))

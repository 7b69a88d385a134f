"""What lies behind a digit whose ground is transparent.

Ink alone lies on the opposite of itself, black on white or white on black. But programs also cut
digits out of a sheet: with a margin, with round corners, or along the ink, where a rim of the sheet
stays that the ink's edge was blended with. There the rim tells what the sheet was like: on black it
would be taken for the ink itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError
from Modelling.images.components import Mask
from Modelling.images.pixels import Pixels

# From which alpha on a pixel is part of what was cut out.
VISIBLE = 0.5

# How far the rim may be from being of one colour, as a share of how far the rest keeps from that
# colour, on the average: a sheet's is even, ink is at its rim as it is elsewhere. On 60 digits, cut
# out in twelve ways, enlarged by 1, 2 and 4, in seven pairs of colours, 0.3 to 0.6 are right alike.
EVEN_RIM = 0.6

# Least distance, of 1, of the rest from the rim. Below it all is of one colour.
LEAST_DISTANCE = 0.02


def on_paper(image: npt.NDArray[Any]) -> Pixels:
    """Give (H, W, C) with C 1 or 3: what is transparent becomes paper.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4) float32 in [0, 1].

    Raises:
        ImageError: All of it is transparent.
    """
    if image.ndim == 2:
        return image[..., None]
    if image.shape[2] == 3:
        return image
    colour, alpha = image[..., :3], image[..., 3:]
    if not alpha.any():
        raise ImageError("blank image: all of it is transparent")
    shown: Pixels = colour * alpha + _paper_behind(colour, alpha) * (1 - alpha)
    return shown


def _paper_behind(colour: Pixels, alpha: Pixels) -> Pixels:
    """Tell the colour of the paper that is not there, (3,)."""
    visible = alpha[..., 0] >= VISIBLE
    rim = _rim_of(visible)
    rest = visible & ~rim
    if rim.any() and rest.any():
        paper: Pixels = np.median(colour[rim], axis=0)
        apart = float(np.abs(colour[rest] - paper).mean())
        if apart > LEAST_DISTANCE and np.abs(colour[rim] - paper).mean() < EVEN_RIM * apart:
            return paper
    brightness = float((colour * alpha).sum()) / (3 * float(alpha.sum()))
    return np.full(3, brightness < 0.5, np.float32)


def _rim_of(visible: Mask) -> Mask:
    """Find what has a transparent neighbour; beyond the image's border there is none."""
    framed = np.pad(visible, 1, mode="edge")
    inside = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return visible & ~inside

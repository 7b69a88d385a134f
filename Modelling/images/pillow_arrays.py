"""Pillow's pictures to arrays, whole or reduced on the way, and the right way up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.images.metadata import UPRIGHT
from Modelling.images.pixels import unit_range, white_of
from Modelling.images.reduction import Factors, strips


def is_deep(mode: str) -> bool:
    """Tell whether a mode is grey of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def _is_transparent(image: Any) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def as_array(image: Any, white: float | None = None) -> npt.NDArray[Any]:
    """Return a loaded picture as it is.

    Args:
        image: Pillow's.
        white: Of deep grey pixels; what is largest in it if None.

    Returns:
        (H, W) grey or (H, W, 3 or 4) uint8, the fourth only where something is transparent; deep
        grey as (H, W) float32 in [0, 1].
    """
    if is_deep(image.mode):
        return unit_range(np.asarray(image), white)
    if _is_transparent(image):
        return _without_idle_alpha(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _without_idle_alpha(rgba: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rgba if (rgba[..., 3] < 255).any() else rgba[..., :3]


def in_strips(image: Any, factors: Factors, white: float | None = None) -> npt.NDArray[Any]:
    """Convert and reduce a loaded picture without a second one of its size.

    Returns:
        As `as_array`, each side shorter by its factor.
    """
    from PIL import Image

    width, height = image.size
    pieces = list(strips(width, height, factors))
    deep = is_deep(image.mode)
    if deep and white is None:
        white = white_of(np.asarray(image.crop((0, top, width, low))) for top, low in pieces)
    parts = []
    for top, bottom in pieces:
        strip = image.crop((0, top, width, bottom)) if len(pieces) > 1 else image
        if deep:
            strip = Image.fromarray(unit_range(np.asarray(strip), white))
        elif _is_transparent(image):
            strip = strip.convert("RGBA")
        else:
            strip = strip.convert("L" if image.mode in ("1", "L") else "RGB")
        parts.append(np.asarray(strip.reduce(factors)))
    reduced = np.concatenate(parts)
    return _without_idle_alpha(reduced) if reduced.shape[2:] == (4,) else reduced


def turned_upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an array after the value of EXIF's orientation."""
    if orientation == UPRIGHT:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)

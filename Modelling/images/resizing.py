"""How a whole picture becomes as small as a model's input: as the model's training did it.

    antialiased          averages over all pixels that fall into one (Pillow's bilinear filter)
    bilinear             between the four nearest pixels, as Keras' `image_dataset_from_directory`
    nearest              the nearest pixel, as that with `interpolation="nearest"`
    crop                 `bilinear` of the largest part in the middle that has the input's
                         proportions, as that with `crop_to_aspect_ratio=True`
    crop-antialiased     `antialiased` of that part

Only antialiased ways may start from a picture that was reduced while it was decoded: the others
look at single pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.images.pixels import Pixels

ANTIALIASED = "antialiased"
BILINEAR = "bilinear"
NEAREST = "nearest"
CROP = "crop"
CROP_ANTIALIASED = "crop-antialiased"

WAYS = (ANTIALIASED, BILINEAR, NEAREST, CROP, CROP_ANTIALIASED)
ANTIALIASED_WAYS = frozenset({ANTIALIASED, CROP_ANTIALIASED})
CROPPING_WAYS = frozenset({CROP, CROP_ANTIALIASED})

Box = tuple[float, float, float, float]


def resized(image: npt.NDArray[Any], height: int, width: int, way: str = ANTIALIASED) -> Pixels:
    """Scale an image.

    Args:
        image: (H, W) or (H, W, C), uint8, or float32 in [0, 1].
        height: Rows wanted.
        width: Columns wanted.
        way: See the head of this file.

    Returns:
        (height, width, C) float32 in [0, 1]. uint8 of the size wanted passes bit for bit.
    """
    if image.ndim == 2:
        image = image[..., None]
    box = box_of(image.shape[1], image.shape[0], width, height, way)
    if box == (0, 0, width, height) and image.shape[:2] == (height, width):
        return as_unit(image)
    if way in ANTIALIASED_WAYS:
        return _antialiased(image, height, width, box)
    return _sampled(image, height, width, box, nearest=way == NEAREST)


def as_unit(image: npt.NDArray[Any]) -> Pixels:
    """Scale uint8 to float32 in [0, 1]; what is float32 already is there."""
    if image.dtype == np.uint8:
        pixels: Pixels = np.divide(image, np.float32(255), dtype=np.float32)
        return pixels
    return np.ascontiguousarray(image, np.float32)


def box_of(width: int, height: int, to_width: int, to_height: int, way: str) -> Box:
    """Tell which part of a picture is scaled: left, top, right, bottom."""
    if way not in CROPPING_WAYS:
        return 0, 0, width, height
    # As Keras does it, in whole pixels.
    part_height = min(height, int(width * to_height / to_width)) or 1
    part_width = min(width, int(height * to_width / to_height)) or 1
    top, left = (height - part_height) // 2, (width - part_width) // 2
    return left, top, left + part_width, top + part_height


def _antialiased(image: npt.NDArray[Any], height: int, width: int, box: Box) -> Pixels:
    from PIL import Image

    bands = image.shape[2]
    if image.dtype == np.uint8 and bands in (1, 3):
        # All channels at once, in whole numbers: a fourth of the time of floats.
        whole = Image.fromarray(np.ascontiguousarray(image[..., 0] if bands == 1 else image))
        small = whole.resize((width, height), Image.Resampling.BILINEAR, box)
        return as_unit(np.asarray(small).reshape(height, width, bands))
    scaled = np.empty((height, width, bands), np.float32)
    floats = as_unit(image)
    for channel in range(bands):  # Pillow scales floats in single bands only
        band = Image.fromarray(np.ascontiguousarray(floats[..., channel]))
        small = band.resize((width, height), Image.Resampling.BILINEAR, box)
        scaled[..., channel] = np.asarray(small)
    return np.clip(scaled, 0, 1)


def _sampled(
    image: npt.NDArray[Any], height: int, width: int, box: Box, *, nearest: bool
) -> Pixels:
    left, top, right, bottom = box
    rows = top + (np.arange(height) + 0.5) * (bottom - top) / height
    columns = left + (np.arange(width) + 0.5) * (right - left) / width
    if nearest:
        return as_unit(image[rows.astype(int)][:, columns.astype(int)])
    upper, lower, down = _neighbours(rows, int(top), int(bottom))
    before, behind, across = _neighbours(columns, int(left), int(right))
    down, across = down[:, None, None], across[None, :, None]
    # Only the rows that are read become floats: a photograph has thousands.
    above, below = as_unit(image[upper]), as_unit(image[lower])
    strip = above + (below - above) * down
    scaled: Pixels = strip[:, before] + (strip[:, behind] - strip[:, before]) * across
    return np.clip(scaled, 0, 1)


def _neighbours(
    centres: npt.NDArray[np.float64], first: int, end: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Find the pixels before and behind each place, and how far it is between them."""
    places = np.clip(centres - 0.5, first, end - 1)
    before = np.floor(places).astype(np.intp)
    return before, np.minimum(before + 1, end - 1), (places - before).astype(np.float32)

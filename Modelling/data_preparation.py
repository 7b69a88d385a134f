"""Data sets, and images of any kind made into what a model was trained on.

The one function that matters here is `prepare_image`; the parts it is made of have files of their
own: `images.decoding` (bytes to pixels), `images.digits` (pixels to MNIST's form),
`images.resizing`, `training.datasets`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError, shortened
from Modelling.images.decoding import (
    IMAGE_SUFFIXES,
    Pixels,
    check_size,
    decode,
    decode_image,
    encode_npy,
    is_array,
    unit_range,
)
from Modelling.images.digits import SIZE, WORKING_SIDE, as_mnist_form, normalise_digit
from Modelling.images.pixels import is_mask
from Modelling.images.resizing import ANTIALIASED, CROPPING_WAYS, as_unit, resized
from Modelling.images.several import require_one_digit_in_form
from Modelling.network.checkpoint import DIGITS, RESIZE
from Modelling.network.side_file import SideFile
from Modelling.network.side_file_values import require_preprocessing
from Modelling.training.datasets import Dataset, bundled_test_images, load_dataset

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "ImageError",
    "bundled_test_images",
    "counted_by_kind",
    "decode_image",
    "encode_npy",
    "load_dataset",
    "preparation_of",
    "prepare_bytes",
    "prepare_image",
    "visible_files",
]


def visible_files(folder: Path) -> list[Path]:
    """List the files below a folder, at any depth, but for what is hidden.

    So are `.thumbnails`, and what macOS puts beside files: `._photo.png`, `__MACOSX`.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def counted_by_kind(files: Sequence[Path]) -> str:
    """Count files by suffix, the most frequent first: `3 .txt, 1 .mov, 1 without suffix`."""
    kinds = Counter(shortened(file.suffix.lower(), 20) if file.suffix else "" for file in files)
    return ", ".join(
        f"{number:,} {kind or 'without suffix'}" for kind, number in kinds.most_common(MOST_KINDS)
    )


@dataclass(frozen=True)
class Preparation:
    """What a model wants images to be made into.

    Attributes:
        input_shape: Height, width and channels.
        preprocessing: `digits` or `resize`; see `prepare_image`.
        resize: How a whole image is scaled; see `resizing`.
        white: What is white in arrays and deep grey pixels; None to tell by the image.
    """

    input_shape: tuple[int, int, int]
    preprocessing: str = RESIZE
    resize: str = ANTIALIASED
    white: float | None = None

    def of(self, data: bytes, white: float | None = None) -> Prepared:
        """Decode an image and make it into the model's input.

        Args:
            data: See `decode_image`.
            white: Of this image, if it is known.

        Raises:
            ImageError: See `decode_image` and `prepare_image`.
        """
        white = self.white if white is None else white
        digits = self.preprocessing == DIGITS
        enough = None
        if digits:
            enough = 2 * WORKING_SIDE
        elif self.resize == ANTIALIASED:
            # Twice what is needed: scaling down from there still averages over enough pixels.
            enough = 2 * max(self.input_shape[:2])
        decoded = decode(
            data,
            enough=enough,
            proportional=digits or self.resize in CROPPING_WAYS,
            white=white,
        )
        image = decoded.pixels
        if white is None and is_array(data) and is_mask(image):
            image = image.astype(np.bool_)
        pixels = prepare_image(image, self.input_shape, self.preprocessing, resize=self.resize)
        return Prepared(pixels, decoded.cut_off)


def preparation_of(side: SideFile) -> Preparation:
    """Return what a model wants images to be made into, as its side file says."""
    return Preparation(side.input_shape, side.preprocessing, side.resize or ANTIALIASED, side.white)


@dataclass(frozen=True)
class Prepared:
    """A model's input, and whether the image's file lacks its last bytes."""

    pixels: Pixels
    cut_off: bool = False


def prepare_bytes(
    data: bytes,
    input_shape: tuple[int, int, int],
    preprocessing: str,
    *,
    resize: str = ANTIALIASED,
    white: float | None = None,
) -> Pixels:
    """Decode an image and make it into a model's input; see `decode_image` and `prepare_image`."""
    return Preparation(input_shape, preprocessing, resize, white).of(data).pixels


def prepare_image(
    image: npt.NDArray[Any],
    input_shape: tuple[int, int, int],
    preprocessing: str,
    *,
    resize: str = ANTIALIASED,
) -> Pixels:
    """Make an image into a model's input.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4) of bool, integers or floats, see `decode_image`.
        input_shape: Height, width and channels of the model's input.
        preprocessing: `digits`: the digit is found, whatever its colour and polarity, and set into
            28x28 as in MNIST; an image in MNIST's own form passes bit for bit (see
            `images.digits`). `resize`: the whole image is scaled, its channels as the model
            wants them; transparency shows white; an image of the right size passes bit for bit.
        resize: How it is scaled; see `images.resizing`.

    Returns:
        (H, W, C) float32 in [0, 1].

    Raises:
        ImageError: The image has NaN, infinite or negative pixels, or, for `digits`, no ink or
            several digits.
        ValueError: `digits` for another input than 28x28 grey.
    """
    check_size(image.shape[1], image.shape[0])
    height, width, channels = input_shape
    if preprocessing == DIGITS:
        require_preprocessing(preprocessing, input_shape)
        return _prepare_digit(image)[..., None]
    if image.dtype != np.uint8:
        image = unit_range(image)
    # Scaled first, while it is large only once; the channels' sums may as well be taken then.
    return _with_channels(resized(_opaque(image, channels), height, width, resize), channels)


def _prepare_digit(image: npt.NDArray[Any]) -> Pixels:
    if image.ndim == 3 and image.shape[:2] == (SIZE, SIZE) and _is_grey(image):
        image = image[..., 0]
    if image.shape == (SIZE, SIZE):
        pixels = as_mnist_form(image)
        if pixels is not None:
            require_one_digit_in_form(pixels)
            return pixels
    return normalise_digit(image)


def _is_grey(image: npt.NDArray[Any]) -> bool:
    """Tell whether an RGB image shows grey only (an RGBA one is left to the normalisation)."""
    return image.shape[2] == 3 and bool(
        (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    )


# Kinds of skipped files that are named.
MOST_KINDS = 8

# Brightness of red, green and blue: ITU-R BT.601, as in Pillow's and Keras' conversions.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def _opaque(image: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """Show (H, W, 4) on white, unless the model wants to see what is transparent."""
    if image.ndim != 3 or image.shape[2] != 4 or channels == 4:
        return image
    pixels = as_unit(image)
    alpha = pixels[..., 3:]
    shown: Pixels = pixels[..., :3] * alpha + (1 - alpha)
    return shown


def _with_channels(image: Pixels, channels: int) -> Pixels:
    """Give (H, W, channels), from grey, RGB or RGBA."""
    if image.shape[2] == channels:
        return image
    if channels == 1:
        return np.clip((image @ GREY_WEIGHTS)[..., None], 0, 1)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if channels == 4:
        image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    return image

"""Data sets, and images of any kind made into what a model was trained on.

The one function that matters here is `prepare_image`; the parts it is made of have files of their
own: `image_decoding` (bytes to pixels), `digit_normalisation` (pixels to MNIST's form), `datasets`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError
from Modelling.images.decoding import (
    IMAGE_SUFFIXES,
    Pixels,
    check_size,
    decode_image,
    encode_npy,
    unit_range,
)
from Modelling.images.digits import SIZE, WORKING_SIDE, as_mnist_form, normalise_digit
from Modelling.network.checkpoint import DIGITS
from Modelling.network.side_file import require_preprocessing
from Modelling.training.datasets import Dataset, bundled_test_images, load_dataset

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "ImageError",
    "bundled_test_images",
    "decode_image",
    "encode_npy",
    "load_dataset",
    "prepare_bytes",
    "prepare_image",
]


def prepare_bytes(data: bytes, input_shape: tuple[int, int, int], preprocessing: str) -> Pixels:
    """Decode an image and make it into a model's input; see `decode_image` and `prepare_image`."""
    # Twice what is needed: scaling down from there still averages over enough pixels.
    digits = preprocessing == DIGITS
    enough = 2 * (WORKING_SIDE if digits else max(input_shape[:2]))
    image = decode_image(data, enough=enough, proportional=digits)
    return prepare_image(image, input_shape, preprocessing)


def prepare_image(
    image: npt.NDArray[Any], input_shape: tuple[int, int, int], preprocessing: str
) -> Pixels:
    """Make an image into a model's input.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4) of bool, integers or floats, see `decode_image`.
        input_shape: Height, width and channels of the model's input.
        preprocessing: `digits`: the digit is found, whatever its colour and polarity, and set into
            28x28 as in MNIST; an image in MNIST's own form passes bit for bit (see
            `digit_normalisation`). `resize`: the whole image is scaled, its channels as the model
            wants them; transparency shows white; an image of the right size passes bit for bit.

    Returns:
        (H, W, C) float32 in [0, 1].

    Raises:
        ImageError: The image has NaN, infinite or negative pixels, or, for `digits`, no ink.
        ValueError: `digits` for another input than 28x28 grey.
    """
    check_size(image.shape[1], image.shape[0])
    if preprocessing == DIGITS:
        require_preprocessing(preprocessing, input_shape)
        return _prepare_digit(image)[..., None]
    return _resized(_with_channels(unit_range(image), input_shape[2]), input_shape)


def _prepare_digit(image: npt.NDArray[Any]) -> Pixels:
    if image.ndim == 3 and image.shape[:2] == (SIZE, SIZE) and _is_grey(image):
        image = image[..., 0]
    if image.shape == (SIZE, SIZE):
        pixels = as_mnist_form(image)
        if pixels is not None:
            return pixels
    return normalise_digit(image)


def _is_grey(image: npt.NDArray[Any]) -> bool:
    """Tell whether an RGB image shows grey only (an RGBA one is left to the normalisation)."""
    return image.shape[2] == 3 and bool(
        (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    )


# Brightness of red, green and blue: ITU-R BT.601, as in Pillow's and Keras' conversions.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def _with_channels(image: Pixels, channels: int) -> Pixels:
    """(H, W, channels), from grey, RGB or RGBA."""
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 4:
        image = image[..., :3] * image[..., 3:] + (1 - image[..., 3:])
    if channels == 1:
        grey: Pixels = (image @ GREY_WEIGHTS)[..., None] if image.shape[2] == 3 else image
        return np.clip(grey, 0, 1)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if channels == 4:
        image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    return image


def _resized(image: Pixels, input_shape: tuple[int, int, int]) -> Pixels:
    height, width, channels = input_shape
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image, np.float32)
    from PIL import Image

    # Channel by channel: Pillow resizes floats in single bands only. Its bilinear filter averages
    # when it shrinks, so nothing aliases.
    resized = np.empty(input_shape, np.float32)
    for channel in range(channels):
        band = Image.fromarray(np.ascontiguousarray(image[..., channel], np.float32))
        resized[..., channel] = np.asarray(band.resize((width, height), Image.Resampling.BILINEAR))
    return np.clip(resized, 0, 1)

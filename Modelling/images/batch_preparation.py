"""Many published images into one array, fast for the kind that comes by the thousand.

Most messages are `.npy` arrays of exactly the model's size, whose first bytes are all the same. So
their headers are compared as bytes and not parsed, and their pixels are joined and scaled in one
step for the whole batch. Everything else takes the general way, image by image. Both ways give the
same pixels and the same errors.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from Modelling.data_preparation import prepare_bytes
from Modelling.errors import ImageError, shortened
from Modelling.images.decoding import Pixels, encode_npy
from Modelling.images.digits import DIGITS, SIZE, mnist_form_mask


def prepare_batch(
    datas: Sequence[bytes], input_shape: tuple[int, int, int], preprocessing: str
) -> tuple[Pixels, list[ImageError | None]]:
    """Prepare a batch; see `Classifier.prepare_batch`."""
    errors: list[ImageError | None] = [None] * len(datas)
    images: Pixels = np.empty((len(datas), *input_shape), np.float32)
    general = _fill_with_plain_arrays(images, datas, input_shape, preprocessing)
    for index in general:
        try:
            images[index] = prepare_bytes(datas[index], input_shape, preprocessing)
        except ImageError as error:
            errors[index] = error
        except Exception as error:  # noqa: BLE001 - no image may cost the others, whatever it hits
            errors[index] = ImageError(
                f"image that cannot be prepared: {type(error).__name__}: {shortened(error)}"
            )
    if any(errors):
        images = images[[index for index, error in enumerate(errors) if error is None]]
    return images, errors


def _fill_with_plain_arrays(
    images: Pixels, datas: Sequence[bytes], shape: tuple[int, int, int], preprocessing: str
) -> Sequence[int]:
    """Fill the rows of uint8 arrays that need no more than scaling; returns the other rows."""
    headers, pixel_bytes = _plain_headers(shape)
    header_length = len(headers[0])
    length = header_length + pixel_bytes
    plain = [
        index
        for index, data in enumerate(datas)
        if len(data) == length and data.startswith(headers)
    ]
    if not plain:
        return range(len(datas))
    joined = np.frombuffer(b"".join([datas[index] for index in plain]), np.uint8)
    pixels: npt.NDArray[np.uint8] = joined.reshape(len(plain), length)[:, header_length:].reshape(
        len(plain), *shape
    )
    if preprocessing == DIGITS and shape == (SIZE, SIZE, 1):
        in_form = mnist_form_mask(pixels[..., 0])
        if not in_form.all():
            pixels = pixels[in_form]
            plain = [index for index, good in zip(plain, in_form, strict=True) if good]
    if len(plain) == len(datas):
        np.divide(pixels, np.float32(255), out=images)
        return ()
    images[plain] = pixels / np.float32(255)
    filled = set(plain)
    return [index for index in range(len(datas)) if index not in filled]


@functools.cache
def _plain_headers(shape: tuple[int, int, int]) -> tuple[tuple[bytes, ...], int]:
    """Make the `.npy` headers, as NumPy writes them, of a uint8 image of the model's size.

    Returns:
        Headers of one length, and the number of bytes that follow them.
    """
    shapes = [shape, shape[:2]] if shape[2] == 1 else [shape]
    pixel_bytes = int(np.prod(shape))
    headers = tuple(encode_npy(np.zeros(each, np.uint8))[:-pixel_bytes] for each in shapes)
    return headers, pixel_bytes

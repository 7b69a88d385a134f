"""Many published images into one array, fast for the kind that comes by the thousand.

Most messages are `.npy` arrays of exactly the model's size, whose first bytes are all the same. So
their headers are compared as bytes and not parsed, and their pixels are joined and scaled in one
step for the whole batch. Everything else takes the general way, image by image: in this thread, or
shared out to processes where a picture that crashes or hangs its decoder costs itself alone. All
ways give the same pixels and the same errors.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from Modelling.data_preparation import Preparation, Prepared
from Modelling.errors import ImageError, shortened
from Modelling.images.decoding import Pixels, encode_npy
from Modelling.images.digits import DIGITS, SIZE, mnist_form_mask
from Modelling.images.pixels import MASK
from Modelling.images.several import with_several_digits

logger = logging.getLogger(__name__)

Whites = Sequence[float | None]


class Decoders(Protocol):
    """Decodes and prepares images somewhere else; see `decoding_pool`."""

    def prepare(
        self, datas: Sequence[bytes], whites: Whites, preparation: Preparation
    ) -> Sequence[Prepared | ImageError]:
        """Prepare each image, in order."""
        ...


def prepare_batch(
    datas: Sequence[bytes],
    preparation: Preparation,
    whites: Whites | None = None,
    decoders: Decoders | None = None,
    channels_first: bool = False,
) -> tuple[Pixels, list[ImageError | None]]:
    """Prepare a batch; see `Classifier.prepare_batch`.

    Args:
        datas: The images' bytes.
        preparation: What the model wants.
        whites: What is white in each, if it is known.
        decoders: Where the general way is gone; None for this thread.
        channels_first: Lay each image out in memory channel by channel. The array is (N, H, W, C)
            all the same.
    """
    whites = whites or [None] * len(datas)
    errors: list[ImageError | None] = [None] * len(datas)
    images = _rows(len(datas), preparation.input_shape, channels_first)
    general = _fill_with_plain_arrays(images, datas, whites, preparation)
    cut_off = 0
    for index, prepared in zip(
        general,
        _prepare_others(
            [datas[i] for i in general], [whites[i] for i in general], preparation, decoders
        ),
        strict=True,
    ):
        if isinstance(prepared, ImageError):
            errors[index] = prepared
        else:
            images[index] = prepared.pixels
            cut_off += prepared.cut_off
    if cut_off:
        logger.warning("%d JPEGs lack their last bytes: what is missing of them is grey", cut_off)
    if any(errors):
        images = images[[index for index, error in enumerate(errors) if error is None]]
    return images, errors


def _rows(count: int, shape: tuple[int, int, int], channels_first: bool) -> Pixels:
    if not channels_first:
        return np.empty((count, *shape), np.float32)
    height, width, channels = shape
    return np.empty((count, channels, height, width), np.float32).transpose(0, 2, 3, 1)


def _scale(pixels: npt.NDArray[np.uint8], images: Pixels) -> None:
    """Fill images; bytes are brought into their order before they become four times as large."""
    if not images.flags.c_contiguous:
        images = images.transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    np.divide(pixels, np.float32(255), out=images)


def _prepare_others(
    datas: Sequence[bytes], whites: Whites, preparation: Preparation, decoders: Decoders | None
) -> Sequence[Prepared | ImageError]:
    if decoders is not None and datas:
        return decoders.prepare(datas, whites, preparation)
    return [
        prepare_or_error(data, white, preparation)
        for data, white in zip(datas, whites, strict=True)
    ]


def prepare_or_error(
    data: bytes, white: float | None, preparation: Preparation
) -> Prepared | ImageError:
    """Prepare one image; whatever goes wrong is its error."""
    try:
        return preparation.of(data, white)
    except ImageError as error:
        return error
    except Exception as error:  # noqa: BLE001 - no image may cost the others, whatever it hits
        return ImageError(
            "image that cannot be prepared", f"{type(error).__name__}: {shortened(error)}"
        )


def _fill_with_plain_arrays(
    images: Pixels, datas: Sequence[bytes], whites: Whites, preparation: Preparation
) -> Sequence[int]:
    """Fill the rows of uint8 arrays that need no more than scaling; return the other rows."""
    shape = preparation.input_shape
    headers, pixel_bytes = _plain_headers(shape)
    header_length = len(headers[0])
    length = header_length + pixel_bytes
    plain = [] if preparation.white is not None else [
        index
        for index, data in enumerate(datas)
        if len(data) == length and data.startswith(headers) and whites[index] is None
    ]  # fmt: skip
    if not plain:
        return range(len(datas))
    joined = np.frombuffer(b"".join([datas[index] for index in plain]), np.uint8)
    pixels: npt.NDArray[np.uint8] = joined.reshape(len(plain), length)[:, header_length:].reshape(
        len(plain), *shape
    )
    in_form = pixels.reshape(len(plain), -1).max(1) > MASK  # of a mask white is something else
    if preparation.preprocessing == DIGITS and shape == (SIZE, SIZE, 1):
        in_form &= mnist_form_mask(pixels[..., 0])
        in_form &= ~with_several_digits(pixels[..., 0])  # the general way says so
    if not in_form.all():
        pixels = pixels[in_form]
        plain = [index for index, good in zip(plain, in_form, strict=True) if good]
    if len(plain) == len(datas):
        _scale(pixels, images)
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

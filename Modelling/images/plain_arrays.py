"""`.npy` arrays of exactly the model's size, the kind of picture that comes by the thousand.

Their first bytes are all the same, so headers are compared as bytes and not parsed, and pixels are
joined and scaled for many pictures at once. Large ones stay as they came where several threads run
the network: the one that takes some scales them, and finds them in its core's cache. As float32
they are four times as large, and were written to memory and read again by another core.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from Modelling.data_preparation import Preparation
from Modelling.images.decoding import encode_npy
from Modelling.images.digits import DIGITS, SIZE, mnist_form_mask
from Modelling.images.pixels import MASK, Pixels
from Modelling.images.several import with_several_digits

Whites = Sequence[float | None]

# Bytes of a picture: of small ones many are scaled in one step, which is quicker.
LARGE_BYTES = 32 << 10

# Bytes from a picture's middle that are looked at before all of them are.
SAMPLE_BYTES = 1024


class AsSent:
    """Large plain arrays as a batch of pictures: float32 in [0, 1] is made of those asked for.

    Attributes:
        shape: (N, H, W, C)
        dtype: of what a slice gives.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, datas: Sequence[bytes], shape: tuple[int, int, int], channels_first: bool
    ) -> None:
        """Hold pictures.

        Args:
            datas: Their bytes, which `stay_as_sent`.
            shape: Of each.
            channels_first: See `empty_rows`.
        """
        self.shape = (len(datas), *shape)
        self._datas = datas
        self._channels_first = channels_first

    def __len__(self) -> int:
        return len(self._datas)

    def __getitem__(self, rows: slice) -> Pixels:
        """Return (n, H, W, C), in memory as `empty_rows` lays them out."""
        datas, shape = self._datas[rows], self.shape[1:]
        images = empty_rows(len(datas), shape, self._channels_first)
        _scale(_joined(datas, shape), images)
        return images


# What an engine takes: (N, H, W, C) float32 in [0, 1], however it lies in memory.
Batch = Pixels | AsSent


def empty_rows(count: int, shape: tuple[int, int, int], channels_first: bool) -> Pixels:
    """Make room for pictures, (N, H, W, C), each channel by channel in memory if asked for."""
    if not channels_first:
        return np.empty((count, *shape), np.float32)
    height, width, channels = shape
    return np.empty((count, channels, height, width), np.float32).transpose(0, 2, 3, 1)


def stay_as_sent(datas: Sequence[bytes], whites: Whites, preparation: Preparation) -> bool:
    """Tell whether all are large arrays that need no more than scaling, as `AsSent` takes them.

    Args:
        datas: The pictures' bytes.
        whites: What is white in each, if it is known.
        preparation: What the model wants.
    """
    shape = preparation.input_shape
    headers, pixel_bytes = _headers(shape)
    length = len(headers[0]) + pixel_bytes
    return (
        pixel_bytes >= LARGE_BYTES
        and preparation.white is None
        and preparation.preprocessing != DIGITS
        and all(white is None for white in whites)
        and all(
            len(data) == length and data.startswith(headers) and not _is_mask(data, shape)
            for data in datas
        )
    )


def fill_with_plain_arrays(
    images: Pixels, datas: Sequence[bytes], whites: Whites, preparation: Preparation
) -> Sequence[int]:
    """Fill the rows of uint8 arrays that need no more than scaling; return the other rows."""
    shape = preparation.input_shape
    headers, pixel_bytes = _headers(shape)
    length = len(headers[0]) + pixel_bytes
    plain = [] if preparation.white is not None else [
        index
        for index, data in enumerate(datas)
        if len(data) == length and data.startswith(headers) and whites[index] is None
    ]  # fmt: skip
    if not plain:
        return range(len(datas))
    pixels = _joined([datas[index] for index in plain], shape)
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


def _joined(datas: Sequence[bytes], shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    joined = np.frombuffer(datas[0] if len(datas) == 1 else b"".join(datas), np.uint8)
    pixel_bytes = math.prod(shape)
    rows = joined.reshape(len(datas), len(joined) // len(datas))
    return rows[:, rows.shape[1] - pixel_bytes :].reshape(len(datas), *shape)


def _is_mask(data: bytes, shape: tuple[int, int, int]) -> bool:
    pixels = _joined([data], shape).ravel()
    middle = len(pixels) // 2
    if pixels[middle : middle + SAMPLE_BYTES].max() > MASK:
        return False
    return bool(pixels.max() <= MASK)


def _scale(pixels: npt.NDArray[np.uint8], images: Pixels) -> None:
    """Fill images; bytes are brought into their order before they become four times as large."""
    if not images.flags.c_contiguous:
        images = images.transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    np.divide(pixels, np.float32(255), out=images)


@functools.cache
def _headers(shape: tuple[int, int, int]) -> tuple[tuple[bytes, ...], int]:
    """Make the `.npy` headers, as NumPy writes them, of a uint8 image of the model's size.

    Returns:
        Headers of one length, and the number of bytes that follow them.
    """
    shapes = [shape, shape[:2]] if shape[2] == 1 else [shape]
    pixel_bytes = math.prod(shape)
    headers = tuple(encode_npy(np.zeros(each, np.uint8))[:-pixel_bytes] for each in shapes)
    return headers, pixel_bytes

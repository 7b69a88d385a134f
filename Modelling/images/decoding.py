"""Bytes to pixels: `.npy` arrays, and all that Pillow opens. The bytes decide, never a name.

Pillow's part is in `pillow`; here are arrays.

Everything here reads what strangers sent. So sizes are checked before memory is taken, nothing is
unpickled, and whatever goes wrong ends as an `ImageError` with the reason.
"""

from __future__ import annotations

import ast
import functools
import io
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError
from Modelling.images.pillow import decode_with_pillow
from Modelling.images.pixels import MAX_PIXELS, MAX_SIDE, Pixels, check_size, unit_range
from Modelling.images.reduction import STRIP_PIXELS, WHOLE, factors_for, reduced_array

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Decoded",
    "Pixels",
    "check_size",
    "decode",
    "decode_image",
    "encode_npy",
    "unit_range",
]

# Suffixes of the files that a search for images takes from a folder, in lower case.
IMAGE_SUFFIXES = frozenset(
    {".npy", ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".tif", ".tiff",
     ".bmp", ".dib", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".heic", ".heif", ".hif"}
)  # fmt: skip

NPY_MAGIC = b"\x93NUMPY"

# Bytes. An image's header has about 120.
MAX_NPY_HEADER = 4096

# What no image's header has, and what Python's parser would warn of on stderr.
UNPARSABLE = re.compile(rb"\\|[0-9][A-Za-z_]")

# NumPy's kinds of numbers that can be pixels.
KINDS = {"b": "bool", "u": "unsigned integer", "i": "integer", "f": "float"}


def is_array(data: bytes) -> bool:
    """Tell whether an image is a `.npy` file."""
    return data.startswith(NPY_MAGIC)


def encode_npy(image: npt.NDArray[Any]) -> bytes:
    """Encode an array as the bytes of a `.npy` file, as `decode_image` reads it."""
    return _npy_header(image.dtype.str, image.shape) + image.tobytes()


@functools.cache
def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Let NumPy write the header, once for each kind of image: it takes longer than the pixels."""
    buffer = io.BytesIO()
    np.save(buffer, np.empty(shape, dtype), allow_pickle=False)
    return buffer.getvalue()[: -math.prod(shape) * np.dtype(dtype).itemsize or None]


def decode_image(
    data: bytes,
    *,
    enough: int | None = None,
    proportional: bool = False,
    white: float | None = None,
) -> npt.NDArray[Any]:
    """Decode an image; see `decode`, which also tells whether the file lacks its last bytes."""
    return decode(data, enough=enough, proportional=proportional, white=white).pixels


@dataclass(frozen=True)
class Decoded:
    """An image, and whether its file lacks its last bytes."""

    pixels: npt.NDArray[Any]
    cut_off: bool = False


def decode(
    data: bytes,
    *,
    enough: int | None = None,
    proportional: bool = False,
    white: float | None = None,
) -> Decoded:
    """Decode an image.

    Args:
        data: A `.npy` file, or a PNG, JPEG, GIF, WebP, TIFF, BMP, AVIF, JPEG 2000 or HEIC.
        enough: Large images may be reduced, which saves time and memory, as long as each side keeps
            so many pixels. Then no image takes more than about 400 MB beside its bytes.
        proportional: Reduce both sides alike; see `reduction.factors_for`.
        white: What is white in an array, or in deep grey pixels, if it is known.

    Returns:
        (H, W), (H, W, 3) or (H, W, 4). Pillow's formats give uint8, upright after their EXIF
        orientation, 4 channels if anything is transparent; high-range grey (16 bit, float) gives
        float32 in [0, 1]. Arrays come as they are, or, if white is known, as float32 in [0, 1],
        except that (H, W, 1) becomes (H, W), and that reduced ones are uint8, or float32 in [0, 1].

    Raises:
        ImageError: The bytes are no such image, or one that is too large.
    """
    if not data:
        raise ImageError("empty message: no image in it")
    if not is_array(data):
        return Decoded(*decode_with_pillow(data, enough, proportional=proportional, white=white))
    image = _decode_npy(data)
    height, width = image.shape[:2]
    if enough and width * height > STRIP_PIXELS:
        factors = factors_for(width, height, enough, proportional=proportional)
        if factors != WHOLE:
            return Decoded(reduced_array(image, factors, white))
    return Decoded(image if white is None else unit_range(image, white))


def _decode_npy(data: bytes) -> npt.NDArray[Any]:
    dtype, shape, fortran_order, offset = _read_npy_header(data)
    if dtype.kind not in KINDS:
        raise ImageError("array of another type: pixels are bool, integers or floats", str(dtype))
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise ImageError(
            "array of another shape: an image is (H, W), (H, W, 1), 3 or 4 channels",
            f"shape {shape}",
        )
    check_size(shape[1], shape[0])
    count = int(np.prod(shape, dtype=np.int64))
    expected = count * dtype.itemsize
    if len(data) - offset != expected:
        raise ImageError(
            "truncated or damaged array",
            f"{expected} bytes by its header, but {len(data) - offset} bytes follow",
        )
    flat = np.frombuffer(data, dtype, count, offset)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


def _read_npy_header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Read the header of a `.npy`, version 1 to 3, without NumPy's own parser's generosity.

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    try:
        version = data[6]
        if version == 1:
            (length,), start = struct.unpack_from("<H", data, 8), 10
        elif version in (2, 3):
            (length,), start = struct.unpack_from("<I", data, 8), 12
        else:
            raise ImageError(
                "array in an unknown version of .npy: known are 1, 2 and 3", f"version {version}"
            )
        if length > MAX_NPY_HEADER or start + length > len(data):
            raise ImageError("array with a truncated or damaged header")
        text = data[start : start + length]
        if UNPARSABLE.search(text):
            raise ImageError("array with a truncated or damaged header")
        header = ast.literal_eval(text.decode("utf-8").strip())
        description = header["descr"]
        shape = tuple(header["shape"])
        fortran_order = bool(header["fortran_order"])
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ImageError("array with a truncated or damaged header", f"shape {shape}")
        if not isinstance(description, str):
            raise ImageError("array of records: pixels are bool, integers or floats")
        dtype = np.dtype(description)
    except ImageError:
        raise
    except (struct.error, IndexError, KeyError, TypeError, ValueError, SyntaxError, MemoryError,
            RecursionError):  # fmt: skip
        raise ImageError("array with a truncated or damaged header") from None
    if dtype.hasobject:
        raise ImageError("array of pickled objects: refused, unpickling runs code")
    return dtype, shape, fortran_order, start + length

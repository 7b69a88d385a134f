"""Bytes to pixels: `.npy` arrays, and all that Pillow opens. The bytes decide, never a name.

Everything here reads what strangers sent. So sizes are checked before memory is taken, nothing is
unpickled, and whatever goes wrong ends as an `ImageError` with the reason.
"""

from __future__ import annotations

import ast
import functools
import io
import math
import struct
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError

Pixels = npt.NDArray[np.float32]

IMAGE_SUFFIXES = frozenset(
    {".npy", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp"}
)
"""Suffixes of the files that a search for images takes from a folder, in lower case."""

PILLOW_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
"""Pillow knows many more, but some call programs (EPS) and most are rarely tested decoders: not for
bytes from strangers."""

MAX_PIXELS = 64_000_000
"""Largest image: a telephone's best cameras give 50 million pixels. 64 million take 256 MB."""

MAX_SIDE = 65_535
"""Longest side, in pixels; what JPEG allows."""

NPY_MAGIC = b"\x93NUMPY"

MAX_NPY_HEADER = 4096
"""Bytes. An image's header has about 120."""

KINDS = {"b": "bool", "u": "unsigned integer", "i": "integer", "f": "float"}
"""NumPy's kinds of numbers that can be pixels."""

OVERSHOOT = 0.01
"""How far floats may miss [0, 1]: bicubic resampling and rounding leave such."""

FLOAT_WHITES = (255, 65_535)
INTEGER_WHITES = (255, 1023, 4095, 16_383, 65_535)
"""What white may be where pixels are wider than 8 bits, the smallest first."""


def encode_npy(image: npt.NDArray[Any]) -> bytes:
    """Encode an array as the bytes of a `.npy` file, as `decode_image` reads it."""
    return _npy_header(image.dtype.str, image.shape) + image.tobytes()


@functools.cache
def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Let NumPy write the header, once for each kind of image: it takes longer than the pixels."""
    buffer = io.BytesIO()
    np.save(buffer, np.empty(shape, dtype), allow_pickle=False)
    return buffer.getvalue()[: -math.prod(shape) * np.dtype(dtype).itemsize or None]


def decode_image(data: bytes, *, enough: int | None = None) -> npt.NDArray[Any]:
    """Decode an image.

    Args:
        data: A `.npy` file, or a PNG, JPEG, GIF, WebP, TIFF or BMP.
        enough: Photographs may be decoded smaller, which saves time and memory, as long as both
            sides keep so many pixels.

    Returns:
        (H, W), (H, W, 3) or (H, W, 4). Pillow's formats give uint8, upright after their EXIF
        orientation, 4 channels if anything is transparent; high-range grey (16 bit, float) gives
        float32 in [0, 1]. Arrays come as they are, except that (H, W, 1) becomes (H, W).

    Raises:
        ImageError: The bytes are no such image, or one that is too large.
    """
    if not data:
        raise ImageError("empty message: no image in it")
    if data.startswith(NPY_MAGIC):
        return _decode_npy(data)
    return _decode_with_pillow(data, enough)


def _decode_npy(data: bytes) -> npt.NDArray[Any]:
    dtype, shape, fortran_order, offset = _read_npy_header(data)
    if dtype.kind not in KINDS:
        raise ImageError(f"array of {dtype}: pixels are bool, integers or floats")
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise ImageError(f"array of shape {shape}: an image is (H, W), (H, W, 1), 3 or 4 channels")
    check_size(shape[1], shape[0])
    count = int(np.prod(shape, dtype=np.int64))
    expected = count * dtype.itemsize
    if len(data) - offset != expected:
        raise ImageError(
            f"array of {expected} bytes by its header, but {len(data) - offset} bytes follow: "
            "truncated or damaged"
        )
    flat = np.frombuffer(data, dtype, count, offset)
    image = flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)
    if len(shape) == 3 and fortran_order:
        image = np.ascontiguousarray(image)
    return image


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
            raise ImageError(f"array in .npy format version {version}: known are 1, 2 and 3")
        if length > MAX_NPY_HEADER or start + length > len(data):
            raise ImageError("array with a truncated or damaged header")
        header = ast.literal_eval(data[start : start + length].decode("utf-8").strip())
        description = header["descr"]
        shape = tuple(header["shape"])
        fortran_order = bool(header["fortran_order"])
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ImageError(f"array of shape {shape}")
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


def check_size(width: int, height: int) -> None:
    """Refuse images without pixels, and with too many.

    Raises:
        ImageError: With the limit.
    """
    if width < 1 or height < 1:
        raise ImageError(f"image of {width} x {height} pixels: empty")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"image of {width} x {height} pixels: more than {MAX_PIXELS:,}, or a side longer than "
            f"{MAX_SIDE:,}"
        )


def _decode_with_pillow(data: bytes, enough: int | None) -> npt.NDArray[Any]:
    from PIL import UnidentifiedImageError

    try:
        with _pillow().open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            check_size(*image.size)
            if enough and image.format in ("JPEG", "MPO"):
                image.draft(None, (enough, enough))
            return _pixels_of(image, enough)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"not an image: {len(data)} bytes that are neither .npy, PNG, JPEG, GIF, WebP, TIFF "
            "nor BMP"
        ) from None
    except MemoryError:
        raise ImageError("image that does not fit into memory") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise nearly anything
        raise ImageError(f"truncated or damaged image: {error}") from None


@functools.cache
def _pillow() -> Any:
    """Pillow's Image module, set up once."""
    from PIL import Image

    # `check_size` takes its place: one limit, checked before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    # Odd metadata is warned of on stderr, image by image; the pixels are what counts here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


def _pixels_of(image: Any, enough: int | None) -> npt.NDArray[Any]:
    """The first frame of an open Pillow image, upright, as an array."""
    from PIL import ImageOps

    # Freshly opened it is at its first frame; to count the frames would mean to read them all.
    ImageOps.exif_transpose(image, in_place=True)
    factor = min(image.size) // enough if enough else 1
    if factor > 1 and image.mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr"):
        image = image.reduce(factor)
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return unit_range(np.asarray(image))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        return rgba if (rgba[..., 3] < 255).any() else rgba[..., :3]
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def unit_range(pixels: npt.NDArray[Any]) -> Pixels:
    """Scale pixels of any kind to float32 in [0, 1].

    Bool is black and white. 8-bit pixels are divided by 255. Of wider types nobody wrote down what
    white is; see `white_of`. Floats may miss [0, 1] by 0.01, as resampling leaves them: they are
    cut off there.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond 65,535.
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.float32)
    low, high = pixels.min(), pixels.max()
    white = white_of(low, high, pixels.dtype)
    scaled: Pixels = pixels.astype(np.float32) / np.float32(white)
    return np.clip(scaled, 0, 1) if low < 0 or high > white else scaled


def white_of(low: Any, high: Any, dtype: np.dtype[Any]) -> float:
    """Guess what white is in an image of a type wider than 8 bits.

    It is the smallest of these that covers the image: for integers what cameras' and scanners'
    converters of 8, 10, 12, 14 and 16 bits reach, or the type's maximum; for floats 1, 255, 65,535.

    Args:
        low: The least of its pixels.
        high: The greatest.
        dtype: Their type.

    Raises:
        ImageError: NaN, infinite, negative, or floats beyond the last of these.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("array with NaN or infinite pixels")
    floats = dtype.kind == "f"
    if low < (-OVERSHOOT if floats else 0):
        raise ImageError(f"array with negative pixels (down to {low:g})")
    if floats and high <= 1 + OVERSHOOT:
        return 1
    whites = FLOAT_WHITES if floats else (*INTEGER_WHITES, int(np.iinfo(dtype).max))
    for white in whites:
        if high <= white:
            return white
    raise ImageError(f"array with pixels up to {high:g}: floats are [0, 1], [0, 255] or [0, 65535]")

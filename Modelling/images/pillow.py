"""Files of the usual image formats to pixels, by Pillow, within a bounded memory.

A decoded picture takes up to 4 bytes a pixel, and some decoders take more beside it. That is
estimated from the header, before anything is decoded, and what would take too much is refused.
"""

from __future__ import annotations

import functools
import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError, shortened
from Modelling.images.pixels import check_size, unit_range, white_of
from Modelling.images.reduction import WHOLE, Factors, factors_for, strips

# Pillow knows many more, but some call programs (EPS) and most are rarely tested decoders: not for
# bytes from strangers.
PILLOW_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")

# Memory that decoding one picture may take.
MAX_DECODING_BYTES = 400_000_000

# A pixel, beside the picture itself: Pillow's decoder holds an animation's canvas, the frame before
# it and a copy.
WEBP_BYTES = 12

# Tags of EXIF and TIFF.
ORIENTATION = 0x0112
TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP = 322, 323, 278
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, PHOTOMETRIC, YCBCR = 258, 277, 262, 6


def decode_with_pillow(data: bytes, enough: int | None, *, proportional: bool) -> npt.NDArray[Any]:
    """Decode a picture; see `image_decoding.decode_image`."""
    from PIL import UnidentifiedImageError

    try:
        with _pillow().open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            width, height = image.size
            check_size(width, height)
            # Of most images nothing need be estimated. A TIFF's tiles may be larger than it is.
            small = width * height < MAX_DECODING_BYTES // 20 and image.format != "TIFF"
            coefficients = 0 if small else _jpeg_coefficients(image)
            if enough and image.format in ("JPEG", "MPO"):
                image.draft(None, (enough, enough))
            if not small:
                _check_memory(image, coefficients)
            return _pixels_of(image, enough, proportional)
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
        raise ImageError(f"truncated or damaged image: {shortened(error)}") from None


@functools.cache
def _pillow() -> Any:
    """Pillow's Image module, set up once."""
    from PIL import Image

    # `check_size` takes its place: one limit, checked before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    # Odd metadata is warned of on stderr, image by image; the pixels are what counts here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


@functools.cache
def _image_ops() -> Any:
    from PIL import ImageOps

    return ImageOps


def _check_memory(image: Any, coefficients: int) -> None:
    """Refuse a picture whose decoding would take too much memory.

    Raises:
        ImageError: With what it would take.
    """
    width, height = image.size
    picture = width * height * _bytes_per_pixel(image.mode)
    needed = picture + coefficients
    if image.format == "WEBP":
        needed += width * height * WEBP_BYTES
    elif image.format == "TIFF":
        needed += _tiff_buffer(image)
        if image.tag_v2.get(ORIENTATION, 1) != 1:
            needed += picture  # Pillow turns it while it loads it
    if needed > MAX_DECODING_BYTES:
        raise ImageError(
            f"image of {width} x {height} pixels: as this kind of {image.format} it takes "
            f"{needed / 1e6:,.0f} MB to decode, more than {MAX_DECODING_BYTES / 1e6:,.0f} MB"
        )


def _bytes_per_pixel(mode: str) -> int:
    """Tell what Pillow stores."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _jpeg_coefficients(image: Any) -> int:
    """Tell the bytes that a progressive JPEG's decoder holds, of whatever size it is decoded at."""
    if image.format not in ("JPEG", "MPO") or "progressive" not in image.info:
        return 0
    width, height = image.size
    layers = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]
    largest = max(horizontal for horizontal, _ in layers) * max(vertical for _, vertical in layers)
    samples = sum(horizontal * vertical for horizontal, vertical in layers) / max(1, largest)
    return int(2 * width * height * samples)


def _tiff_buffer(image: Any) -> int:
    """Tell the bytes that a compressed TIFF's strip or tile is unpacked into, by its header."""
    if not image.tile or image.tile[0][0] != "libtiff":
        return 0
    tags = image.tag_v2
    width, height = image.size
    if TILE_WIDTH in tags or TILE_LENGTH in tags:
        pixels = int(tags.get(TILE_WIDTH, width)) * int(tags.get(TILE_LENGTH, height))
    else:
        pixels = width * min(int(tags.get(ROWS_PER_STRIP, height)), height)
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    bytes_per_pixel = int(tags.get(SAMPLES_PER_PIXEL, 1)) * int(max(bits)) / 8
    if tags.get(PHOTOMETRIC) == YCBCR:
        bytes_per_pixel += 4  # it is made RGBA at once
    return int(pixels * bytes_per_pixel)


def _pixels_of(image: Any, enough: int | None, proportional: bool) -> npt.NDArray[Any]:
    """Give the first frame of an open Pillow image, upright, as an array."""
    # Freshly opened it is at its first frame; to count the frames would mean to read them all.
    width, height = image.size
    factors = factors_for(width, height, enough, proportional=proportional)
    if factors == WHOLE:
        _image_ops().exif_transpose(image, in_place=True)
        return _as_array(image)
    # Some formats have it behind the pixels, and TIFF forgets it when it turns the picture itself.
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)
    return _upright(_in_strips(image, factors), orientation)


def _is_deep(mode: str) -> bool:
    """Tell whether a mode is grey of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def _is_transparent(image: Any) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _as_array(image: Any) -> npt.NDArray[Any]:
    if _is_deep(image.mode):
        return unit_range(np.asarray(image))
    if _is_transparent(image):
        return _without_idle_alpha(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _without_idle_alpha(rgba: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rgba if (rgba[..., 3] < 255).any() else rgba[..., :3]


def _in_strips(image: Any, factors: Factors) -> npt.NDArray[Any]:
    """Convert and reduce a loaded picture without a second one of its size."""
    width, height = image.size
    pieces = list(strips(width, height, factors))
    white = _white(image, pieces) if _is_deep(image.mode) else None
    parts = []
    for top, bottom in pieces:
        strip = image.crop((0, top, width, bottom))
        if white is not None:
            pixels = np.asarray(strip).astype(np.float32) / np.float32(white)
            strip = _pillow().fromarray(pixels.clip(0, 1))
        elif _is_transparent(image):
            strip = strip.convert("RGBA")
        else:
            strip = strip.convert("L" if image.mode in ("1", "L") else "RGB")
        parts.append(np.asarray(strip.reduce(factors)))
    reduced = np.concatenate(parts)
    return _without_idle_alpha(reduced) if reduced.shape[2:] == (4,) else reduced


def _white(image: Any, pieces: list[tuple[int, int]]) -> float:
    """Tell what white is in the whole of a deep grey picture."""
    arrays = (np.asarray(image.crop((0, top, image.size[0], bottom))) for top, bottom in pieces)
    extremes = [(array.min(), array.max(), array.dtype) for array in arrays]
    lows, highs, dtypes = zip(*extremes, strict=True)
    # By NumPy, which passes NaN on.
    return white_of(np.min(lows), np.max(highs), dtypes[0])


def _upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an array after the value of EXIF's orientation."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)

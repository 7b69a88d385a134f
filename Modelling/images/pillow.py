"""Files of the usual image formats to pixels, by Pillow, within a bounded memory.

A decoded picture takes up to 4 bytes a pixel, and some decoders take more beside it. That is
estimated from the header, before anything is decoded, and what would take too much is refused.

Only the decoders of `FORMATS` are ever reached, each by the bytes that begin the file; see
`headers`. Of a file's optional parts Pillow is given, or asked, as little as can be; see
`metadata`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from DurableText.installation.extras import how_to_get
from Modelling.errors import ImageError, shortened
from Modelling.images import headers
from Modelling.images.metadata import (
    ORIENTATION,
    UPRIGHT,
    exif_orientation,
    png_pixels,
    xmp_orientation,
)
from Modelling.images.pixels import check_size, unit_range, white_of
from Modelling.images.reduction import WHOLE, Factors, factors_for, strips

# Pillow knows many more, but some call programs (EPS) and most are rarely tested decoders: not for
# bytes from strangers.
FORMATS = (
    headers.PNG, headers.JPEG, headers.GIF, headers.WEBP, headers.TIFF, headers.BMP,
    headers.AVIF, headers.JPEG2000, headers.HEIF,
)  # fmt: skip

# Memory that decoding one picture may take.
MAX_DECODING_BYTES = 400_000_000

# Bytes a pixel that decoders hold beside the picture itself. WebP: an animation's canvas, the frame
# before it and a copy. AVIF and HEIC: planes of up to 16 bits, and what they become. JPEG 2000:
# whole numbers of 32 bits for each of up to four components, and the wavelet's.
BESIDE_BYTES = {headers.WEBP: 12, headers.AVIF: 12, headers.HEIF: 12, headers.JPEG2000: 20}

# Above this estimate pictures are decoded one at a time, by whatever `one_at_a_time` was set to.
LARGE_BYTES = 64_000_000

# Share of a JPEG's rows that may lack at its end, as a camera that was switched off leaves it.
MISSING_ROWS = 0.1

# What stands for the missing end: the end itself, and noise that every decoder sees as pixels.
JPEG_END = b"\xff\xd9"
JPEG_NOISE = bytes(range(1, 128)) * 4

TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP = 322, 323, 278
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, PHOTOMETRIC, YCBCR = 258, 277, 262, 6
MAX_SAMPLE_VALUE = 281

# Set by a process that shares its machine with others that decode.
one_at_a_time: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext


def decode_with_pillow(
    data: bytes, enough: int | None, *, proportional: bool, white: float | None = None
) -> tuple[npt.NDArray[Any], bool]:
    """Decode a picture; see `decoding.decode_image`.

    Returns:
        The pixels, and whether the file lacks its last bytes.
    """
    kind = headers.format_of(data)
    if kind not in FORMATS:
        raise ImageError(
            "not an image: neither .npy, PNG, JPEG, GIF, WebP, TIFF, BMP, AVIF, JPEG 2000 nor HEIC",
            f"{len(data):,} bytes",
        )
    try:
        orientation = None
        if kind == headers.JPEG:
            headers.refuse_many_scans(data)
        elif kind == headers.PNG:
            data, orientation = png_pixels(data)
        reading = _Reading(kind, enough, proportional, orientation, white)
        try:
            return reading.pixels_of(data), False
        except OSError:
            if kind != headers.JPEG:
                raise
            return _cut_off_jpeg(data, reading), True
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("image that does not fit into memory") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise nearly anything
        # Of a header that cannot be read Pillow tells an address in memory, and no more.
        said = "its header" if type(error).__name__ == "UnidentifiedImageError" else error
        raise ImageError("truncated or damaged image", f"{kind}: {shortened(said)}") from None


def _cut_off_jpeg(data: bytes, reading: _Reading) -> npt.NDArray[Any]:
    """Decode a JPEG whose last bytes lack, as viewers do: what is missing is grey.

    It is decoded twice, with two endings: where the pictures begin to differ the data ended.

    Raises:
        ImageError: More than a tenth of its rows lack.
    """
    ended = reading.pixels_of(data + JPEG_END, upright=False)
    noisy = reading.pixels_of(data + JPEG_NOISE + JPEG_END, upright=False)
    same = (ended == noisy).reshape(len(ended), -1).all(1)
    rows = len(same) if same.all() else int(np.argmin(same))
    if rows < (1 - MISSING_ROWS) * len(same):
        raise ImageError(
            "truncated or damaged image", f"JPEG: {rows} of {len(same)} rows are there"
        )
    return _upright(ended, reading.orientation or UPRIGHT)


class _Reading:
    """How one picture is to be read."""

    def __init__(
        self,
        kind: str,
        enough: int | None,
        proportional: bool,
        orientation: int | None,
        white: float | None,
    ) -> None:
        """Say what is wanted, and what is known.

        Args:
            kind: The picture's format.
            enough: See `decoding.decode_image`.
            proportional: Likewise.
            orientation: 1 to 8, if it is known already.
            white: Of deep grey pixels, if it is known.
        """
        self.kind = kind
        self.enough = enough
        self.proportional = proportional
        self.orientation = orientation
        self.white = white

    def pixels_of(self, data: bytes, *, upright: bool = True) -> npt.NDArray[Any]:
        """Decode the first frame, as an array."""
        with _opened(self.kind, data) as image:
            width, height = image.size
            check_size(width, height)
            # Of most images nothing need be estimated. A TIFF's tiles may be larger than it is.
            small = width * height < LARGE_BYTES // 20 and self.kind != headers.TIFF
            coefficients = 0 if small else _jpeg_coefficients(image)
            if self.enough and self.kind == headers.JPEG and headers.jpeg_can_be_scaled(data):
                image.draft(None, (self.enough, self.enough))
            needed = 0 if small else _memory_for(image, self.kind, coefficients, self.enough)
            with one_at_a_time() if needed > LARGE_BYTES else contextlib.nullcontext():
                pixels = self._array_of(image)
        return _upright(pixels, self.orientation or UPRIGHT) if upright else pixels

    def _array_of(self, image: Any) -> npt.NDArray[Any]:
        # Freshly opened it is at its first frame; to count the frames would mean to read them all.
        width, height = image.size
        factors = factors_for(width, height, self.enough, proportional=self.proportional)
        # TIFF forgets its orientation when it turns the picture itself, which is while it loads.
        image.load()
        if self.orientation is None:
            self.orientation = _orientation_of(image, self.kind)
        white = self.white or _white_by_format(image, self.kind)
        if factors == WHOLE:
            return _as_array(image, white)
        return _in_strips(image, factors, white)


def _opened(kind: str, data: bytes) -> Any:
    pillow = _pillow()
    if kind == headers.JPEG:
        # Not by `open`, which reads the list of all pictures of a file that holds several.
        from PIL import JpegImagePlugin

        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if kind == headers.HEIF:
        _require_heif()
    return pillow.open(io.BytesIO(data), formats=(kind,))


@functools.cache
def _pillow() -> Any:
    """Set up Pillow's Image module, once."""
    from PIL import Image

    # `check_size` takes its place: one limit, checked before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    # Odd metadata is warned of on stderr, image by image; the pixels are what counts here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with contextlib.suppress(ImportError):
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are what is shared out to cores
    return Image


def _require_heif() -> None:
    """Register the decoder of HEIC.

    Raises:
        ImageError: It is not installed.
    """
    try:
        import pi_heif
    except ImportError:
        raise ImageError(
            f"HEIC, whose decoder is not installed on the server: {how_to_get('heic')}"
        ) from None
    pi_heif.register_heif_opener(thumbnails=False)


def _memory_for(image: Any, kind: str, coefficients: int, enough: int | None) -> int:
    """Estimate the bytes that decoding a picture takes.

    Raises:
        ImageError: They are too many.
    """
    width, height = image.size
    picture = width * height * _bytes_per_pixel(image.mode)
    needed: int = picture + coefficients + width * height * BESIDE_BYTES.get(kind, 0)
    if not enough:
        needed += width * height * len(image.getbands())  # the array, beside Pillow's picture
    if kind == headers.TIFF:
        needed += _tiff_buffer(image)
        if image.tag_v2.get(ORIENTATION, UPRIGHT) != UPRIGHT:
            needed += picture  # Pillow turns it while it loads it
    if needed > MAX_DECODING_BYTES:
        raise ImageError(
            f"image of more than {MAX_DECODING_BYTES / 1e6:,.0f} MB",
            f"{width} x {height} pixels, as this kind of {kind} it takes {needed / 1e6:,.0f} MB to "
            f"decode: send it as a baseline JPEG, or with at most "
            f"{width * height * MAX_DECODING_BYTES / needed / 1e6:.0f} million pixels",
        )
    return needed


def _bytes_per_pixel(mode: str) -> int:
    """Tell what Pillow stores."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _jpeg_coefficients(image: Any) -> int:
    """Tell the bytes that a progressive JPEG's decoder holds, of whatever size it is decoded at."""
    if image.format != headers.JPEG or "progressive" not in image.info:
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


def _orientation_of(image: Any, kind: str) -> int:
    """Read a loaded picture's orientation; 1 where it cannot be read."""
    if kind == headers.TIFF:
        with contextlib.suppress(Exception):
            number = int(image.getexif().get(ORIENTATION, UPRIGHT))
            return number if 1 <= number <= 8 else UPRIGHT
        return UPRIGHT
    exif, xmp = (image.info.get(key) for key in ("exif", "xmp"))
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else UPRIGHT
    if orientation == UPRIGHT and isinstance(xmp, bytes):
        orientation = xmp_orientation(xmp)
    return orientation


def _white_by_format(image: Any, kind: str) -> float | None:
    """Tell what white is in a deep grey picture, as its format defines it.

    16 bits are 16 bits, at whatever exposure; TIFF may say less. Of 32 bits and of floats nobody
    wrote it down.
    """
    if kind == headers.TIFF and MAX_SAMPLE_VALUE in image.tag_v2 and _is_deep(image.mode):
        with contextlib.suppress(TypeError, ValueError):
            most = float(np.max(image.tag_v2[MAX_SAMPLE_VALUE]))
            if most > 0:
                return most
    if image.mode.startswith("I;16") or (image.mode == "I" and kind != headers.TIFF):
        return 65_535
    return None


def _is_deep(mode: str) -> bool:
    """Tell whether a mode is grey of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def _is_transparent(image: Any) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _as_array(image: Any, white: float | None = None) -> npt.NDArray[Any]:
    if _is_deep(image.mode):
        return unit_range(np.asarray(image), white)
    if _is_transparent(image):
        return _without_idle_alpha(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _without_idle_alpha(rgba: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rgba if (rgba[..., 3] < 255).any() else rgba[..., :3]


def _in_strips(image: Any, factors: Factors, white: float | None = None) -> npt.NDArray[Any]:
    """Convert and reduce a loaded picture without a second one of its size."""
    width, height = image.size
    pieces = list(strips(width, height, factors))
    deep = _is_deep(image.mode)
    if deep and white is None:
        white = white_of(np.asarray(image.crop((0, top, width, low))) for top, low in pieces)
    parts = []
    for top, bottom in pieces:
        strip = image.crop((0, top, width, bottom)) if len(pieces) > 1 else image
        if deep:
            strip = _pillow().fromarray(unit_range(np.asarray(strip), white))
        elif _is_transparent(image):
            strip = strip.convert("RGBA")
        else:
            strip = strip.convert("L" if image.mode in ("1", "L") else "RGB")
        parts.append(np.asarray(strip.reduce(factors)))
    reduced = np.concatenate(parts)
    return _without_idle_alpha(reduced) if reduced.shape[2:] == (4,) else reduced


def _upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
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

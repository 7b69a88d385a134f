"""Files of the usual image formats to pixels, by Pillow, within a bounded memory.

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
from Modelling.images.decoding_memory import jpeg_coefficients, memory_for
from Modelling.images.metadata import (
    ORIENTATION,
    UPRIGHT,
    exif_orientation,
    png_pixels,
    xmp_orientation,
)
from Modelling.images.other_files import told
from Modelling.images.pillow_arrays import as_array, in_strips, is_deep, turned_upright
from Modelling.images.pixels import check_size
from Modelling.images.reduction import WHOLE, factors_for

# Pillow knows many more, but some call programs (EPS) and most are rarely tested decoders: not for
# bytes from strangers.
FORMATS = (
    headers.PNG, headers.JPEG, headers.GIF, headers.WEBP, headers.TIFF, headers.BMP,
    headers.AVIF, headers.JPEG2000, headers.HEIF,
)  # fmt: skip

# Above this estimate pictures are decoded one at a time, by whatever `one_at_a_time` was set to.
LARGE_BYTES = 64_000_000

# Share of a JPEG's rows that may lack at its end, as a camera that was switched off leaves it.
MISSING_ROWS = 0.1

# What stands for the missing end: the end itself, and noise that every decoder sees as pixels.
JPEG_END = b"\xff\xd9"
JPEG_NOISE = bytes(range(1, 128)) * 4

# A tag of TIFF.
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
            told(data),
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
    return turned_upright(ended, reading.orientation or UPRIGHT)


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
            coefficients = 0 if small else jpeg_coefficients(image)
            if self.enough and self.kind == headers.JPEG and headers.jpeg_can_be_scaled(data):
                image.draft(None, (self.enough, self.enough))
            needed = 0 if small else memory_for(image, self.kind, coefficients, self.enough)
            with one_at_a_time() if needed > LARGE_BYTES else contextlib.nullcontext():
                pixels = self._array_of(image)
        return turned_upright(pixels, self.orientation or UPRIGHT) if upright else pixels

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
            return as_array(image, white)
        return in_strips(image, factors, white)


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
    if kind == headers.TIFF and MAX_SAMPLE_VALUE in image.tag_v2 and is_deep(image.mode):
        with contextlib.suppress(TypeError, ValueError):
            most = float(np.max(image.tag_v2[MAX_SAMPLE_VALUE]))
            if most > 0:
                return most
    if image.mode.startswith("I;16") or (image.mode == "I" and kind != headers.TIFF):
        return 65_535
    return None

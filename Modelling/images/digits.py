"""Any picture of a digit, made into what MNIST's authors would have made of it.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20
pixel box while preserving their aspect ratio. The resulting images contain grey levels as a result
of the anti-aliasing technique used by the normalization algorithm. The images were centered in a
28x28 image by computing the center of mass of the pixels, and translating the image so as to
position this point at the center of the 28x28 field." (LeCun, Cortes, Burges,
http://yann.lecun.com/exdb/mnist/)

Before that comes what NIST's scanner did: find the ink. On drawings, scans and small images it is
what differs from the paper, see `paper`; on photographs, and wherever more than a digit differs
from the paper, it is what has been written with a pen, see `strokes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError
from Modelling.images.clutter import (
    fills,
    goes_on_to_border,
    is_cluttered,
    is_edged,
    near_border,
    reaches_all_sides,
    without_far_parts,
)
from Modelling.images.components import Mask
from Modelling.images.masks import extent_of
from Modelling.images.paper import has_even_border, ink_on_paper, is_paper
from Modelling.images.pixels import Pixels, unit_range
from Modelling.images.reduction import reduced_array
from Modelling.images.several import require_one_digit
from Modelling.images.strokes import strokes_on
from Modelling.images.transparency import on_paper

# The name of this preprocessing in a side file.
DIGITS = "digits"

# Height and width of an MNIST image.
SIZE = 28

# The only input for which `digits` means anything.
DIGITS_SHAPE = (SIZE, SIZE, 1)

# Height or width, whichever is larger, of the digit in it.
BOX = 20

# Larger pictures are reduced first, by a whole number: 20 pixels are needed in the end.
WORKING_SIDE = 256

# Least difference between ink and paper, of 1. Below it is grain or JPEG's noise: a blank.
MIN_CONTRAST = 0.08

# Share of the full contrast below which a pixel is paper. On MNIST's training images, enlarged and
# coloured, 0.12 costs no accuracy; 0.05 and less let JPEG's noise in.
INK_FLOOR = 0.12

# Median of the paper's ink above which it has grain.
GRAIN = 0.004

# Height and width, in pixels, from which on an image may be more than a digit on paper.
LEAST_PHOTOGRAPH = 112

# Brightness, of 255, up to which a frame's pixel is black: JPEG leaves a few.
DARKEST = 8

# Least maximum, of 255, of an image in MNIST's own form; of its 70,000 images the least is 254.
FULL_INK = 200

# Width, in pixels of the 20x20 box, below which a stroke is thickened. MNIST's are 2 to 3: pens
# were thicker and boxes smaller than on a photographed sheet.
THIN_STROKE = 1.2

# Indices of the outermost pixels in a flattened image.
_FRAME = np.flatnonzero(np.pad(np.zeros((SIZE - 2, SIZE - 2), bool), 1, constant_values=True))


def mnist_form_mask(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which of (N, 28, 28) uint8 are in MNIST's own form: light ink on black.

    Most of the frame, one pixel wide, is black, and the ink is nearly white. (The frame's median is
    0 on all 70,000 images.) Grey paper is not enough: dark ink on it would be taken as it is.
    """
    flat = images.reshape(len(images), -1)
    black = np.count_nonzero(flat.take(_FRAME, axis=1) <= DARKEST, axis=1)
    mask: npt.NDArray[np.bool_] = (black > len(_FRAME) / 2) & (flat.max(1) >= FULL_INK)
    return mask


def as_mnist_form(image: npt.NDArray[Any]) -> Pixels | None:
    """Take a grey image of 28x28 as it is, or as its negative, if that is MNIST's own form.

    Args:
        image: (28, 28), of any type.

    Returns:
        (28, 28) in [0, 1], the pixels or their negative; None where the digit must be looked for.
    """
    if image.dtype != np.uint8:
        pixels = unit_range(image)
        rounded = np.rint(pixels * 255).astype(np.uint8)
        if mnist_form_mask(rounded[None])[0]:
            return pixels
        return 1 - pixels if mnist_form_mask(255 - rounded[None])[0] else None
    if mnist_form_mask(image[None])[0]:
        return unit_range(image)
    # Inverted as bytes, so that a negative comes out bit for bit as its original.
    negative = 255 - image
    return unit_range(negative) if mnist_form_mask(negative[None])[0] else None


def normalise_digit(image: npt.NDArray[Any]) -> Pixels:
    """Find the digit on an image and set it as MNIST does.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4), as `decode_image` returns it.

    Returns:
        (28, 28) float32 in [0, 1], light ink on black.

    Raises:
        ImageError: There is no ink on the image, no digit, or several.
    """
    picture = on_paper(_reduced(image))
    large = min(picture.shape[:2]) >= LEAST_PHOTOGRAPH
    ink = _drawn(picture) if not large or has_even_border(picture) else _photographed(picture)
    return _centred(_boxed(_thickened(ink)))


def _photographed(picture: Pixels) -> Pixels:
    """Find the digit among whatever else is on a photograph, and cut it out."""
    strokes = strokes_on(np.rint(picture * 255).astype(np.uint8))
    found = None if strokes.ink is None else strokes.ink > 0
    # On plain paper, measured only where the border is near, or no ink was found.
    between = found is not None and is_paper(picture, found)
    if strokes.ink is not None and found is not None and not between and not near_border(found):
        require_one_digit(strokes.written)
        return _cropped(strokes.ink, found)
    ink, dark = _on_plain_paper(picture)
    if between and is_edged(picture, dark) and not is_cluttered(dark):
        dark = _without_specks(dark)
        if fills(dark):
            return _only_digit(ink, dark)
    if strokes.ink is not None and found is not None and not goes_on_to_border(found, ink):
        require_one_digit(strokes.written)
        return _cropped(strokes.ink, found)
    alone = found is None and (strokes.cut_off or reaches_all_sides(dark))
    if alone and is_edged(picture, dark) and not is_cluttered(dark):
        return _only_digit(ink, _without_specks(dark))
    raise ImageError("no digit found: nothing on the image is like the strokes of a pen")


def _drawn(picture: Pixels) -> Pixels:
    """Cut out what is on even paper, if it is a digit alone."""
    ink, dark = _on_plain_paper(picture)
    if min(ink.shape) < LEAST_PHOTOGRAPH:
        return _only_digit(ink, dark)
    return _photographed(picture) if is_cluttered(dark) else _only_digit(ink, _without_specks(dark))


def _on_plain_paper(picture: Pixels) -> tuple[Pixels, Mask]:
    """Measure the ink, from 0 to 1, and tell where it is more than grain."""
    ink = ink_on_paper(picture)
    # On a larger picture single pixels are noise.
    contrast = float(np.quantile(ink[::2, ::2], 0.999) if min(ink.shape) > 99 else ink.max())
    if contrast < MIN_CONTRAST:
        raise ImageError("blank image: no ink that differs from its border")
    ink = np.clip(ink / contrast, 0, 1)
    floor = max(INK_FLOOR, 0.5 * _otsu_threshold(ink)) if _is_grainy(ink) else INK_FLOOR
    dark = ink >= floor
    return np.where(dark, ink, np.float32(0)), dark


def _reduced(image: npt.NDArray[Any]) -> Pixels:
    """Average blocks of pixels of a large image."""
    height, width = image.shape[:2]
    factor = math.ceil(max(height, width) / WORKING_SIDE)
    if factor < 2:
        return unit_range(image)
    # A factor per axis: a line of 1 x 60,000 pixels has nothing to average across.
    return unit_range(reduced_array(image, (min(factor, width), min(factor, height))))


def _only_digit(ink: Pixels, dark: Mask) -> Pixels:
    """Cut out what is dark, which is one digit."""
    require_one_digit(dark)
    return _cropped(ink, without_far_parts(dark))


def _cropped(ink: Pixels, dark: Mask) -> Pixels:
    """Cut to where there is ink."""
    extent = extent_of(dark)
    if extent is None:
        raise ImageError("blank image: only specks, no stroke")
    return ink[extent]


def _is_grainy(ink: Pixels) -> bool:
    """Tell whether the paper has grain: photographs have it, and JPEGs, but no drawings."""
    return float(np.median(ink[::2, ::2])) > GRAIN


def _otsu_threshold(ink: Pixels) -> float:
    """Find the value that separates two groups best (Otsu, 1979)."""
    counts, edges = np.histogram(ink, bins=64, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    # Between-group variance; where a group is empty it is 0 by its first factor.
    means_apart = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float(centres[int(np.argmax(below * above * means_apart**2))])


def _without_specks(dark: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Remove what covers less than half of 5x5 pixels on a picture of more than a hundred."""
    from PIL import Image, ImageFilter

    # The majority of 5x5 pixels: what a median filter gives, at a tenth of its cost.
    blurred = Image.fromarray(dark.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(2))
    kept = np.asarray(blurred) > 127
    return kept if kept.any() else dark


def _thickened(ink: Pixels) -> Pixels:
    """Give hairlines the width of a pen's stroke, before scaling makes them fade away."""
    dark = ink > 0.4
    area = float(dark.sum())
    outline = float((dark[1:] != dark[:-1]).sum() + (dark[:, 1:] != dark[:, :-1]).sum())
    scale = BOX / max(ink.shape)
    width = 2 * area / max(outline, 1.0) * scale
    if width >= THIN_STROKE or scale > 0.5:
        return ink
    from PIL import Image, ImageFilter

    grow = round((THIN_STROKE + 0.4 - width) / scale / 2)
    if grow < 1:
        return ink
    framed = Image.fromarray((np.pad(ink, grow) * 255).astype(np.uint8))
    return unit_range(np.asarray(framed.filter(ImageFilter.MaxFilter(2 * grow + 1))))


def _boxed(ink: Pixels) -> Pixels:
    """Scale into 20x20, proportions kept."""
    from PIL import Image

    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    boxed = np.asarray(Image.fromarray(ink).resize(size, resampling))
    return np.clip(boxed / max(float(boxed.max()), 1e-6), 0, 1).astype(np.float32)


def _centred(digit: Pixels) -> Pixels:
    """Place on 28x28 with the centre of mass in the middle, as far as the digit fits."""
    height, width = digit.shape
    mass = float(digit.sum())
    y = float((digit.sum(1) * np.arange(height)).sum()) / mass
    x = float((digit.sum(0) * np.arange(width)).sum()) / mass
    top = int(np.clip(round(SIZE / 2 - 0.5 - y), 0, SIZE - height))
    left = int(np.clip(round(SIZE / 2 - 0.5 - x), 0, SIZE - width))
    image = np.zeros((SIZE, SIZE), np.float32)
    image[top : top + height, left : left + width] = digit
    return image

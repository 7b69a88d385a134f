"""What is ink on a picture, and what is paper.

Ink is what differs from the paper, in any colour and either polarity. The paper is what most of the
picture's border shows. Its brightness may change smoothly over the picture, as under a lamp or
behind a lens: a surface of second order is fitted to it, again and again without what is too far
from it to be paper.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from Modelling.images.components import Mask
from Modelling.images.masks import grown
from Modelling.images.pixels import Pixels

# Difference of brightness along the border, of 1, up to which the paper is taken as even.
EVEN_PAPER = 0.02

# Difference of brightness from the border's median up to which it is shade, and not ink.
LARGEST_SHADE = 0.25

# Difference of brightness, of 1, that is none: one and a half steps of 255.
SAME = 0.006

# Distance from a plane, of 1, up to which a plane is enough if a third of the border keeps within
# it. Where a digit fills most of the picture, a curved surface would bend to it.
EVEN_LIGHT = 0.015

# Distance of the border from its plane up to which it is no edge of a stroke.
CLOSE_TO_PLANE = 0.06

# Difference, of 1, between middle and border above which it is not light but a digit that fills the
# picture. A vignette of 40 % has 0.24.
DEEPEST_BEND = 0.3

# Height and width, in pixels, at which the light is looked at: it changes slowly.
LIGHT_SIDE = 48

# Of fitting the light without what is no paper. On vignettes the fifth changes nothing more.
ROUNDS = 5

# Least distance from the fitted paper, of 1, up to which a pixel is paper.
CLOSE_TO_PAPER = 0.03

# Median distances from the fitted paper up to which a pixel is paper: 3 standard deviations.
SPREAD = 3 * 1.4826

# Pixels around strokes in which it is seen what they are written on; and how far they are from the
# border's colour, as a share of how far they are from that, if they are paper themselves.
AROUND = 6
AS_PAPER = 0.4

# Of 1, x, y, x^2, y^2 and xy, or the first three of them, for each channel.
Coefficients = npt.NDArray[np.float64]


def has_even_border(image: Pixels) -> bool:
    """Tell whether half of the border is of one brightness: on drawings and clean scans."""
    height, width = image.shape[:2]
    border = image[_rim(height, width, max(1, min(height, width) // 30))]
    distance = _farthest(border - np.median(border, axis=0))
    return bool((distance < SAME).mean() >= 0.5)


def is_paper(image: Pixels, found: Mask) -> bool:
    """Tell whether what was found on (H, W, C) is as the border is, and not as what surrounds it.

    So is the paper between the strokes of a digit that fills the picture.
    """
    height, width = image.shape[:2]
    around = grown(found, AROUND) & ~found
    border = image[_rim(height, width, max(1, min(height, width) // 30))]
    inside, outside, paper = (
        np.median(pixels, axis=0) for pixels in (image[found], image[around], border)
    )
    return bool(_farthest(inside - paper) < AS_PAPER * _farthest(inside - outside))


def ink_on_paper(image: Pixels) -> Pixels:
    """Measure how far each pixel of (H, W, C) is from the paper: (H, W), 0 for paper."""
    height, width = image.shape[:2]
    rows, columns = _rim(height, width, max(1, min(height, width) // 30))
    border = image[rows, columns]
    paper: Pixels = np.median(border, axis=0)
    distance = _farthest(border - paper)
    # Strokes that touch the border are no paper. Half a border of one brightness is a scan or a
    # drawing: it has strokes at the border rather than shade.
    clean = distance < LARGEST_SHADE
    uneven = distance.max() > EVEN_PAPER and (distance < SAME).mean() < 0.5
    if uneven and clean.mean() >= 0.6 and min(height, width) > 3:
        x = 2 * columns[clean] / (width - 1) - 1
        y = 2 * rows[clean] / (height - 1) - 1
        plane = _plane(np.stack([np.ones_like(x), x, y], 1), border[clean])
        light = _curved(image, np.concatenate([plane, np.zeros_like(plane)]))
        paper = _surface(light, height, width)
    return _farthest(image - paper)


@functools.lru_cache(maxsize=64)
def _rim(height: int, width: int, rim: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """List rows and columns of the pixels within `rim` of the border."""
    edge = np.zeros((height, width), bool)
    edge[:rim] = edge[-rim:] = edge[:, :rim] = edge[:, -rim:] = True
    rows, columns = np.nonzero(edge)
    return rows, columns


def _plane(terms: npt.NDArray[Any], border: Pixels) -> Coefficients:
    """Fit twice, the second time without the blurred edges of strokes that touch the border."""
    plane = _fit(terms, border)
    close = _farthest(border - terms @ plane) < CLOSE_TO_PLANE
    return _fit(terms[close], border[close]) if close.mean() >= 0.5 else plane


def _curved(image: Pixels, light: Coefficients) -> Coefficients:
    """Bend a plane to the light of the whole picture, if its border shows that it is not even."""
    small = _made_small(image)
    terms, border = _terms(*small.shape[:2])
    pixels = small.reshape(-1, small.shape[2])
    distance = _farthest(pixels - terms @ light)
    if np.quantile(distance[border], 0.35) < EVEN_LIGHT:
        return light
    plane = light
    for _ in range(ROUNDS):
        paper = distance < max(SPREAD * float(np.median(distance)), CLOSE_TO_PAPER)
        light = _fit(terms[paper], pixels[paper])
        distance = _farthest(pixels - terms @ light)
    return light if np.abs(light[0] - plane[0]).max() < DEEPEST_BEND else plane


def _farthest(differences: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take the largest difference of the channels, (…, C) to (…).

    Channel by channel: NumPy's `max` over so short an axis takes ten times as long.
    """
    channels = np.moveaxis(np.abs(differences), -1, 0)
    return functools.reduce(np.maximum, channels)


def _surface(coefficients: Coefficients, height: int, width: int) -> Pixels:
    """(H, W, C) from (6, C)."""
    constant, x, y, xx, yy, xy = coefficients.astype(np.float32)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    surface: Pixels = constant + across * (x + xx * across) + down * (y + yy * down + xy * across)
    return surface


def _made_small(image: Pixels) -> Pixels:
    height, width = (min(side, LIGHT_SIDE) for side in image.shape[:2])
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    small = np.empty((height, width, image.shape[2]), np.float32)
    for channel in range(image.shape[2]):
        band = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        small[..., channel] = np.asarray(band.resize((width, height), Image.Resampling.BOX))
    return small


@functools.lru_cache(maxsize=16)
def _terms(height: int, width: int) -> tuple[npt.NDArray[np.float32], Mask]:
    """1, x, y, x^2, y^2 and xy of each pixel, from -1 to 1, and which are at the border."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 2).reshape(-1, 6)
    return terms.astype(np.float32), (np.maximum(np.abs(x), np.abs(y)) == 1).ravel()


def _fit(terms: npt.NDArray[Any], pixels: Pixels) -> Coefficients:
    """Fit by least squares; a trace of damping, for where too few pixels are left."""
    damping = 1e-6 * len(terms) * np.eye(terms.shape[1])
    fitted: Coefficients = np.linalg.solve(terms.T @ terms + damping, terms.T @ pixels)
    return fitted

"""Images that show no class at all, for a network to be unsure of.

A classifier that saw only digits calls a shoe a digit, and surely. So it is shown things that are
none, with every class as likely as the next for a target (outlier exposure: Hendrycks, Mazeika and
Dietterich, 2019, https://arxiv.org/abs/1812.04606). All are made here: drawn from random numbers,
or put together from pieces of the training images. No other data set is needed, and what the
confidences are measured on later (clothes, noise, dirt, letters) is not among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
# (N, H, W) in [0, 1].
Planes = npt.NDArray[np.floating[Any]]

# Of a drawing, at most.
MOST_STROKES = 6

# Of a stroke: so close that even a thin one is no row of dots.
POINTS = 24

# Where strokes are that are not drawn: an image reaches from -1 to 1.
OUT_OF_SIGHT = 9

# At a time: bounds the memory that distances to strokes take.
CHUNK = 500


def draw_outliers(images: Images, count: int, seed: int) -> Images:
    """Make images without a class, of each kind in `KINDS` as many.

    Args:
        images: (N, H, W, C) uint8 training images, whose pieces some are made of.
        count: How many to make.
        seed: The same seed gives the same images.

    Returns:
        (count, H, W, C) uint8, in no order.
    """
    rng = np.random.default_rng([seed, count])
    made = [
        kind(images, min(CHUNK, size - start), rng)
        for kind, size in zip(KINDS, _shares(count), strict=True)
        for start in range(0, size, CHUNK)
    ]
    drawn: Images = np.concatenate(made)[rng.permutation(count)]
    return drawn


def _shares(count: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(count), len(KINDS))]


def _clouds(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Light that changes smoothly: gradients, blobs, stains of any size."""
    clouds = _fields(count, images.shape[1:3], rng)
    sharpness = np.exp(rng.uniform(0, 3, (count, 1, 1)))
    level = rng.uniform(0.3, 0.7, (count, 1, 1))
    return _coloured(np.clip((clouds - level) * sharpness + 0.5, 0, 1), images, rng)


def _solids(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Fill shapes, several grown together, flat or shaded; half are symmetric."""
    return _coloured(_shapes(count, images, rng) * _shading(count, images, rng), images, rng)


def _weaves(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Stripes, grids and waves, over all of the image or within a shape."""
    y, x = _axes(images)
    woven = np.ones((count, *images.shape[1:3]), np.float32)
    for direction in range(2):
        angle = rng.uniform(0, np.pi, (count, 1, 1))
        pitch = np.exp(rng.uniform(np.log(1.5), np.log(8), (count, 1, 1)))
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 14 * 2 * np.pi / (2 * pitch))
        hard = np.exp(rng.uniform(-0.7, 2, (count, 1, 1)))
        striped = np.clip(wave * hard + rng.uniform(0, 1, (count, 1, 1)), 0, 1)
        used = 1.0 if direction == 0 else rng.random((count, 1, 1)) < 0.5
        woven *= np.where(used, striped, 1)
    shapes = _shapes(count, images, rng)
    within = rng.random((count, 1, 1)) < 0.6
    return _coloured(woven * np.where(within, shapes, 1), images, rng)


def _scribbles(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Three to six strokes of a pen, bent and straight, in any place."""
    ends = rng.uniform(-1, 1, (2, count, MOST_STROKES, 2)) * rng.uniform(0.5, 1, (count, 1, 1))
    return _strokes(ends, rng.integers(3, MOST_STROKES + 1, count), images, rng)


def _signs(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Signs of no script: three to five strokes between the knots of a grid of three by three."""
    knots = rng.integers(-1, 2, (2, count, MOST_STROKES, 2))
    # A stroke that would end where it begins crosses to the other side.
    same = (knots[0] == knots[1]).all(-1, keepdims=True)
    knots[1] = np.where(same, np.where(knots[0] == 0, 1, -knots[0]), knots[1])
    size = rng.uniform(0.45, 0.7, (count, 1, 2))
    slant = rng.uniform(-0.25, 0.25, (count, 1))
    ends = knots * size + rng.normal(0, 0.04, knots.shape)
    ends[..., 1] -= slant * ends[..., 0]
    return _strokes(ends, rng.integers(3, 6, count), images, rng)


def _strokes(
    ends: npt.NDArray[np.float64],
    strokes: npt.NDArray[np.int64],
    images: Images,
    rng: np.random.Generator,
) -> Images:
    """Draw strokes of a pen, half of them straight, half as parabolas.

    Args:
        ends: (2, N, MOST_STROKES, 2), row and column from -1 to 1 where each begins and ends.
        strokes: (N,), how many of them are drawn.
        images: For their size.
        rng: What chooses bends and the pen.
    """
    y, x = _axes(images)
    count = len(strokes)
    bend = rng.uniform(-0.6, 0.6, ends.shape[1:]) * (rng.random((*ends.shape[1:3], 1)) < 0.5)
    t = np.linspace(0, 1, POINTS)[:, None]
    begin, end, middle = ends[0][:, :, None], ends[1][:, :, None], bend[:, :, None]
    points = (begin + (end - begin) * t + middle * 4 * t * (1 - t)).astype(np.float32)
    points[np.arange(MOST_STROKES) >= strokes[:, None]] = OUT_OF_SIGHT
    nearest = np.full((count, *images.shape[1:3]), OUT_OF_SIGHT, np.float32)
    for point in points.reshape(count, -1, 2).swapaxes(0, 1):
        far = (y - point[:, 0, None, None]) ** 2 + (x - point[:, 1, None, None]) ** 2
        np.minimum(nearest, far, out=nearest)
    half = min(images.shape[1:3]) / 2
    width = rng.uniform(0.04, 0.16, (count, 1, 1)) * half
    ink = np.clip(width - np.sqrt(nearest) * half + 0.5, 0, 1)
    return _coloured(ink, images, rng)


def _jigsaws(images: Images, count: int, rng: np.random.Generator) -> Images:
    """One training image, cut into four and put together wrongly."""
    pieces = np.stack(_quarters(images[rng.integers(len(images), size=count)]), 1)
    orders = np.array([(1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0), (1, 2, 3, 0), (3, 0, 1, 2)])
    order = orders[rng.integers(len(orders), size=count)]
    return _whole(pieces[np.arange(count)[:, None], order], images)


def _mosaics(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Quarters of four training images, each from any of the corners."""
    pieces = np.stack(_quarters(images[rng.integers(len(images), size=count * 4)]), 1)
    corner = rng.integers(4, size=count * 4)
    return _whole(pieces[np.arange(count * 4), corner].reshape(count, 4, *pieces.shape[2:]), images)


def _overlays(images: Images, count: int, rng: np.random.Generator) -> Images:
    """Two or three training images on top of each other, so far apart that none is seen alone."""
    height, width = images.shape[1:3]
    made = np.zeros((count, *images.shape[1:]), np.uint8)
    direction = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    for layer in range(3):
        chosen = images[rng.integers(len(images), size=count)]
        if layer == 2:
            chosen[rng.random(count) < 0.5] = 0
        far = rng.uniform(0.2, 0.28, (count, 1, 1)) * (1, -1, 0)[layer]
        down = np.rint(np.sin(direction) * far * height).astype(np.int64)
        right = np.rint(np.cos(direction) * far * width).astype(np.int64)
        rows, columns = down + np.arange(height)[:, None], right + np.arange(width)
        shifted = chosen[np.arange(count)[:, None, None], rows % height, columns % width]
        np.maximum(made, shifted, out=made)
    return made


KINDS = (_clouds, _solids, _weaves, _scribbles, _signs, _jigsaws, _mosaics, _overlays)


def _axes(images: Images) -> tuple[Planes, Planes]:
    """Rows and columns from -1 to 1: (H, 1) and (1, W)."""
    height, width = images.shape[1:3]
    return (
        np.linspace(-1, 1, height, dtype=np.float32)[:, None],
        np.linspace(-1, 1, width, dtype=np.float32)[None],
    )


def _fields(count: int, size: tuple[int, ...], rng: np.random.Generator) -> Planes:
    """Smooth random fields, from 0 to 1, each with bumps of a size of its own."""
    fields = np.empty((count, *size), np.float32)
    points = rng.integers(2, 9, count)
    for number in np.unique(points):
        chosen = points == number
        grid = rng.random((int(chosen.sum()), number, number), np.float32)
        rows, columns = (_spread(length, int(number)) for length in size)
        fields[chosen] = rows @ grid @ columns.T
    lowest, highest = fields.min((1, 2), keepdims=True), fields.max((1, 2), keepdims=True)
    scaled: Planes = (fields - lowest) / np.maximum(highest - lowest, 1e-6)
    return scaled


def _spread(size: int, points: int) -> Planes:
    """Matrix (size, points) that draws a straight line from each point to the next."""
    position = np.linspace(0, points - 1, size)[:, None] - np.arange(points)[None]
    weights: Planes = np.maximum(1 - np.abs(position), 0).astype(np.float32)
    return weights


def _shapes(count: int, images: Images, rng: np.random.Generator) -> Planes:
    """One to four shapes between a rhombus, an ellipse and a rectangle, as a mask."""
    y, x = _axes(images)
    mask = np.zeros((count, *images.shape[1:3]), np.float32)
    for number in range(4):
        angle = rng.uniform(0, np.pi, (count, 1, 1)) * (rng.random((count, 1, 1)) < 0.5)
        top, left = rng.uniform(-0.6, 0.6, (2, count, 1, 1))
        tall, wide = rng.uniform(0.2, 0.95, (2, count, 1, 1))
        power = np.exp(rng.uniform(0, 2.3, (count, 1, 1)))
        u = np.cos(angle) * (y - top) + np.sin(angle) * (x - left)
        v = np.cos(angle) * (x - left) - np.sin(angle) * (y - top)
        inside = (np.abs(u) / tall) ** power + (np.abs(v) / wide) ** power < 1
        mask = np.maximum(mask, inside & (rng.random((count, 1, 1)) < (1.0, 0.7, 0.5, 0.3)[number]))
    symmetric = rng.random((count, 1, 1)) < 0.5
    both: Planes = np.where(symmetric, np.maximum(mask, mask[:, :, ::-1]), mask)
    return both


def _shading(count: int, images: Images, rng: np.random.Generator) -> Planes:
    depth = rng.uniform(0, 1, (count, 1, 1)) * (rng.random((count, 1, 1)) < 0.7)
    shading: Planes = 1 - depth * _fields(count, images.shape[1:3], rng)
    return shading


def _coloured(planes: Planes, images: Images, rng: np.random.Generator) -> Images:
    """Give planes a brightness, or a colour where the images have several channels."""
    colour = rng.uniform(0.4, 1, (len(planes), 1, 1, images.shape[3]))
    coloured: Images = (planes[..., None] * colour * 255).astype(np.uint8)
    return coloured


def _quarters(images: Images) -> tuple[Images, Images, Images, Images]:
    height, width = (size // 2 for size in images.shape[1:3])
    upper, lower = images[:, :height], images[:, -height:]
    return upper[:, :, :width], upper[:, :, -width:], lower[:, :, :width], lower[:, :, -width:]


def _whole(pieces: Images, images: Images) -> Images:
    """Put (N, 4, h, w, C) quarters together; a middle row or column of an odd size stays empty."""
    whole = np.zeros((len(pieces), *images.shape[1:]), np.uint8)
    for number, quarter in enumerate(_quarters(whole)):
        quarter[...] = pieces[:, number]
    return whole

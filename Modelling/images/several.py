"""Whether several digits are on one picture: they are refused, since an answer names one.

What stands apart is told by its shape alone. Digits beside each other are of like height, and one
begins where the other ends. The strokes of one digit overlap (the two bars of a 5, the two loops of
a broken 8), are of unlike size (dirt, a flag), or nearly touch (an open 4, a torn 0).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from Modelling.errors import ImageError
from Modelling.images.components import Components, Mask, components_of
from Modelling.images.masks import extent_of
from Modelling.images.pixels import Pixels

# What is wrong with them.
SEVERAL = "several digits on one image: cut them out, one for each"

# (N,), the pixels of a row or column of each picture, as bits.
Bits = npt.NDArray[np.int64]

# Longer side of what is looked at: what stands apart does so at this size, too.
LOOKED_AT = 64

# Shapes that are compared, the largest ones.
MOST_SHAPES = 8

# Extent and area, in shares of the largest ones', below which it is dirt, a bar or a flag.
SMALL, SLIGHT = 0.5, 0.2

# Of two digits of one hand: the shorter one's extent, in shares of the other's.
ALIKE = 0.75

# Of what stands side by side: how far one reaches below, or over, the other, at most, in shares of
# the narrower one; how much of the lower one's height they share at least. And for what stands in
# two rows likewise.
OVERLAP, COMMON = 0.2, 0.7

# Gap, in shares of the larger one's extent, that no torn digit has: beside each other, and below.
# Of 70,000 digits of MNIST one is refused.
GAP_BESIDE, GAP_BELOW = 0.1, 0.25

# Width, in heights, from which on a picture may hold two digits that overlap aslant.
BROAD = 1.2

# Height of a digit at least, in widths, where two stand in two rows: most halves of a torn 3 are
# broader.
UPRIGHT = 1.0

# Of 255, from which on a pixel of a picture in MNIST's own form is ink.
INK = 64


def require_one_digit(ink: Mask) -> None:
    """Make sure that no two digits stand apart.

    Args:
        ink: (H, W), where there is ink.

    Raises:
        ImageError: There are several digits.
    """
    if _stand_apart(_reduced(ink)):
        raise ImageError(SEVERAL)


def require_one_digit_in_form(pixels: Pixels) -> None:
    """Make sure of it for (28, 28) in [0, 1] in MNIST's own form, exactly as for many at once.

    Raises:
        ImageError: There are several digits.
    """
    if with_several_digits(np.rint(pixels * 255).astype(np.uint8)[None])[0]:
        raise ImageError(SEVERAL)


def with_several_digits(images: npt.NDArray[np.uint8]) -> Mask:
    """Tell on which of (N, 28, 28), in MNIST's own form, digits stand apart.

    For thousands a second: most pictures are passed by at a glance. A gap leaves an empty row or
    column between two with ink, unless it is aslant: then the picture is broader than most. What is
    left is searched for shapes as one picture, and looked at closely where there are two.
    """
    ink = images > INK
    lines = _as_bits(ink)
    across, down = np.bitwise_or.reduce(lines, axis=1), _as_bits(lines > 0)
    broad = _span(across) > BROAD * _span(down)
    looked_at = np.flatnonzero(_has_gap(across) | _has_gap(down | down << 1) | broad)
    several = np.zeros(len(images), bool)
    if not len(looked_at):
        return several
    side = images.shape[1] + 1  # one empty row between two pictures
    joined = np.zeros((len(looked_at), side, images.shape[2]), bool)
    joined[:, :-1] = ink[looked_at]
    shapes = components_of(joined.reshape(-1, images.shape[2]))
    of_picture = np.bincount(shapes.top[1:] // side, minlength=len(looked_at))
    for number in looked_at[of_picture > 1]:
        several[number] = _stand_apart(_reduced(ink[number]))
    return several


def _as_bits(mask: Mask) -> Bits:
    """Pack the last axis, of up to 32, into one number each: a tenth of what `any` takes."""
    room = np.zeros((*mask.shape[:-1], 32), np.bool_)
    room[..., : mask.shape[-1]] = mask
    packed = np.packbits(room.ravel(), bitorder="little")
    return packed.view("<u4").reshape(mask.shape[:-1]).astype(np.int64)


def _has_gap(bits: Bits) -> Mask:
    """Tell where a 0 stands between two ones: the lowest ones, carried on, meet others."""
    gap: Mask = (bits + (bits & -bits)) & bits != 0
    return gap


def _span(bits: Bits) -> Bits:
    """Count from the lowest 1 to the highest."""
    span: Bits = np.frexp(bits)[1] - np.frexp(bits & -bits)[1] + 1
    return span


def _reduced(ink: Mask) -> Mask:
    """Cut to the ink, and take blocks of pixels as one."""
    extent = extent_of(ink)
    if extent is None:
        return ink
    cut = ink[extent]
    block = -(-max(cut.shape) // LOOKED_AT)
    if block == 1:
        return cut
    padded = np.pad(cut, [(0, -side % block) for side in cut.shape])
    height, width = (side // block for side in padded.shape)
    reduced: Mask = padded.reshape(height, block, width, block).mean((1, 3)) >= 0.5
    return reduced


def _stand_apart(ink: Mask) -> bool:
    shapes = components_of(ink)
    extents = np.maximum(shapes.height, shapes.width)
    extents[0] = 0
    large = np.flatnonzero(
        (extents >= max(SMALL * extents.max(), 1))
        & (shapes.area >= SLIGHT * shapes.area[1:].max(initial=0))
    )
    large = large[np.argsort(-shapes.area[large], kind="stable")][:MOST_SHAPES]
    return any(
        _are_alike(shapes, one, other)
        and (_stand_beside(shapes, one, other) or _stand_in_rows(shapes, one, other))
        for one, other in combinations(large.tolist(), 2)
    )


def _are_alike(shapes: Components, one: int, other: int) -> bool:
    smaller, larger = sorted(_extent(shapes, each) for each in (one, other))
    return smaller >= ALIKE * larger


def _stand_beside(shapes: Components, one: int, other: int) -> bool:
    return (
        _common(shapes.left, shapes.right, one, other) <= OVERLAP
        and _common(shapes.top, shapes.bottom, one, other) >= COMMON
        and _gap_is(GAP_BESIDE, shapes, one, other)
    )


def _stand_in_rows(shapes: Components, one: int, other: int) -> bool:
    upright = all(shapes.height[each] >= UPRIGHT * shapes.width[each] for each in (one, other))
    return (
        upright
        and _common(shapes.top, shapes.bottom, one, other) <= OVERLAP
        and _common(shapes.left, shapes.right, one, other) >= COMMON
        and _gap_is(GAP_BELOW, shapes, one, other)
    )


def _common(first: npt.NDArray[np.intp], last: npt.NDArray[np.intp], one: int, other: int) -> float:
    """Tell which share of the shorter of two spans is the other's, too; below 0 for a distance."""
    shared = min(last[one], last[other]) - max(first[one], first[other]) + 1
    return float(shared / min(last[one] - first[one] + 1, last[other] - first[other] + 1))


def _extent(shapes: Components, number: int) -> int:
    return int(max(shapes.height[number], shapes.width[number]))


def _gap_is(share: float, shapes: Components, one: int, other: int) -> bool:
    """Tell whether so many pixels lie between two shapes everywhere, in shares of the larger."""
    least = share * max(_extent(shapes, one), _extent(shapes, other))
    ours, theirs = (np.argwhere(shapes.labels == number) for number in (one, other))
    distances = np.abs(ours[:, None] - theirs[None]).max(2)
    return bool(distances.min() - 1 >= least)

"""Straight-sided shapes: boxes that are printed around a digit, and the paper beside one.

Digits are round, or have straight strokes, but none has straight sides on three sides of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from Modelling.images.components import Components, Mask

# Share of its bounding box that a frame covers at most, with the digit in it that may touch it.
HOLLOW = 0.5

# How far a side may keep away from its bounding box, as a share of the box's extent: it is turned.
SLOPE = 0.08

# Share of a straight side that keeps so near to the bounding box. Of a round 0 half does.
STRAIGHT = 0.85

# Pixels beyond a line's own thickness that are taken away with it: its blurred edge.
BLURRED_EDGE = 2


def frames_in(components: Components, shortest: float) -> Mask | None:
    """Find the lines of hollow rectangles among components.

    Args:
        components: Of a mask of what is thin.
        shortest: Pixels that the shorter side of a rectangle has at least.

    Returns:
        (H, W), the lines alone, without a digit that touches them; None if there are none.
    """
    found = None
    sizes = components.height * components.width
    enough = np.minimum(components.height, components.width) >= shortest
    for number in np.flatnonzero(enough & (components.area < HOLLOW * sizes)):
        window = components.window(number)
        shape = components.labels[window] == number
        if straight_sides(shape) == 4:
            if found is None:
                found = np.zeros(components.labels.shape, bool)
            found[window] |= _lines_of(shape)
    return found


def straight_sides(shape: Mask) -> int:
    """Count the sides on which a shape, cut out, is straight: up to four."""
    return sum(float(near.mean()) >= STRAIGHT for _, near in map(_profile, _from_each_side(shape)))


def _from_each_side(shape: Mask) -> Iterator[Mask]:
    """Turn a shape so that each of its sides is once at the left; these are views of it."""
    yield from (shape, shape[:, ::-1], shape.T, shape.T[:, ::-1])


def _profile(view: Mask) -> tuple[npt.NDArray[np.intp], Mask]:
    """Tell where each row begins, and whether that is near the bounding box."""
    first = view.argmax(1)
    return first, view.any(1) & (first <= max(2, SLOPE * view.shape[1]))


def _lines_of(shape: Mask) -> Mask:
    """Give what stands outermost, as thick as the thinnest side mostly is."""
    views = list(_from_each_side(shape))
    profiles = [_profile(view) for view in views]
    thickness = min(
        float(np.median(_run_lengths(view, first)[near]))
        for view, (first, near) in zip(views, profiles, strict=True)
    )
    lines = np.zeros_like(shape)
    for side, (first, near) in zip(_from_each_side(lines), profiles, strict=True):
        columns = np.arange(side.shape[1])
        beyond = first + thickness + BLURRED_EDGE
        side |= near[:, None] & (columns >= first[:, None]) & (columns < beyond[:, None])
    return lines


def _run_lengths(view: Mask, first: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Count how many pixels of each row are set from its first one on."""
    columns = np.arange(view.shape[1])
    gaps = ~view & (columns >= first[:, None])
    return np.where(gaps.any(1), gaps.argmax(1), view.shape[1]) - first

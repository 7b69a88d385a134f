"""Whether what differs from the paper is a digit alone, or a shadow, a table or a box with it."""

from __future__ import annotations

import numpy as np

from Modelling.images.components import Components, Mask, components_of
from Modelling.images.frames import straight_sides
from Modelling.images.masks import extent_of
from Modelling.images.pixels import Pixels
from Modelling.images.thin import peeled, stroke_widths

# Pixels over which an edge goes, the share of the picture's contrast that it makes there, and the
# share of a digit's outline that has one. Where a surface was fitted across a shadow's edge, up to
# 0.27 of the outline of what differs from it have; of tightly cut digits 0.5 and more.
ACROSS, CHANGE = 4, 0.15
EDGED = 0.3

# Share of the largest component's area that another one has to be looked at.
SMALL_PART = 0.03

# How far from the largest component, in shares of its extent, others are no part of a digit, unless
# they have more than such a share of its area. (Without that two torn digits of MNIST's 10,000 lose
# a part.)
FAR, FAR_PART = 0.25, 0.2

# How many times as long as broad strokes are at least. A sheet or a shadow is 1 or little more.
SLIM = 1.2

# Stroke width, as a share of the picture's longer side, from which on straight sides are a sheet's.
WIDE = 0.2

# Sides of the picture that a digit touches which was cut out tightly. One that the border cuts off
# has so much of the picture's height or width, and is cut through its strokes: it touches the
# border along so small a share of its own height and width. Fingers that come in are smaller, a
# shadow's or a table's corner lies along the border.
TIGHT_SIDES = 3
CUT_OFF = 0.6
CUT_THROUGH = 0.3

# Share of the picture that the bounding box of a digit has at least which fills it, and share of
# that box which its strokes cover at most: bold ones cover 0.7, a sheet on a table 0.88.
FILLED, COVERED = 0.8, 0.75

# Share of the picture's shorter side, from the border, within which it is asked whether strokes go
# on to it; the share of their darkness that the rest of it has at least; and how many times as
# large as they the whole is at most, which else is a shadow or a table.
NEAR_BORDER = 0.06
AS_DARK = 0.5
WHOLE = 1.8

# Stroke widths that a component has in height and width at least, and straight sides, to be a box.
BOXY, BOXY_SIDES = 1.6, 3


def is_cluttered(dark: Mask) -> bool:
    """Tell whether what differs from the paper is more than a digit.

    Args:
        dark: (H, W), where the picture is not as the paper. At least one pixel is.
    """
    parts = components_of(dark)
    looked_at = np.flatnonzero(parts.area > SMALL_PART * parts.area.max())
    at_border = parts.at_border[looked_at]
    if at_border.any() and (len(looked_at) > 1 or _covers_a_side(dark)):
        return True
    if at_border.any() and not _may_be_cut_off(parts, int(looked_at[0]), dark):
        return True
    widths = stroke_widths(parts)
    for number in looked_at:
        width = int(widths[number])
        if parts.area[number] < SLIM * width * width:
            return True
        broad = min(parts.height[number], parts.width[number]) >= BOXY * width
        broad = broad or width >= WIDE * max(dark.shape)
        shape = parts.labels[parts.window(number)] == number
        if broad and straight_sides(shape) >= BOXY_SIDES:
            return True
    return False


def without_far_parts(dark: Mask) -> Mask:
    """Leave out what is small and far from the largest component: dirt, a line of print.

    Torn digits have their parts near.
    """
    parts = components_of(dark)
    if len(parts.area) < 3:
        return dark
    first = int(parts.area[1:].argmax()) + 1
    far = FAR * max(parts.height[first], parts.width[first])
    kept = (parts.top <= parts.bottom[first] + far) & (parts.bottom >= parts.top[first] - far)
    kept &= (parts.left <= parts.right[first] + far) & (parts.right >= parts.left[first] - far)
    kept |= parts.area > FAR_PART * parts.area[first]
    kept[0] = False
    near: Mask = kept[parts.labels]
    return near


def _may_be_cut_off(parts: Components, number: int, dark: Mask) -> bool:
    """Tell whether what touches the border may be a digit: cut out tightly, or cut off."""
    sides = dark[0], dark[-1], dark[:, 0], dark[:, -1]
    if sum(bool(side.any()) for side in sides) >= TIGHT_SIDES:
        return True
    height, width = parts.height[number], parts.width[number]
    if max(height / dark.shape[0], width / dark.shape[1]) < CUT_OFF:
        return False
    return bool(sum(np.count_nonzero(side) for side in sides) <= CUT_THROUGH * (height + width))


def reaches_all_sides(dark: Mask) -> bool:
    """Tell whether what differs from the paper was cut out tightly: it touches all four sides."""
    return bool(dark[0].any() and dark[-1].any() and dark[:, 0].any() and dark[:, -1].any())


def fills(dark: Mask) -> bool:
    """Tell whether what differs from the paper was cut out so that it fills the picture."""
    extent = extent_of(dark)
    if extent is None:
        return False
    box = dark[extent]
    return box.size >= FILLED * dark.size and int(np.count_nonzero(box)) <= COVERED * box.size


def is_edged(picture: Pixels, dark: Mask) -> bool:
    """Tell whether the picture changes where what differs from the paper begins.

    Args:
        picture: (H, W, C), from 0 to 1.
        dark: (H, W), where it is not as the paper.
    """
    from PIL import Image, ImageFilter

    steepest, contrast = np.zeros(dark.shape, np.float32), 0.0
    for channel in np.moveaxis(picture, -1, 0):
        smooth = Image.fromarray((channel * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(2))
        level = np.asarray(smooth, np.float32)
        steepest = np.maximum(steepest, np.hypot(*np.gradient(level)))
        low, high = np.quantile(level, [0.01, 0.99])
        contrast = max(contrast, float(high - low))
    outline = dark & ~peeled(np.pad(dark, 1, mode="edge"))[1:-1, 1:-1]
    return bool((ACROSS * steepest[outline] >= CHANGE * contrast).mean() >= EDGED)


def near_border(found: Mask) -> bool:
    """Tell whether strokes come so near to the border that they may go on to it."""
    near = max(1, round(NEAR_BORDER * min(found.shape)))
    inner = found[near:-near, near:-near]
    return bool(np.count_nonzero(inner) < np.count_nonzero(found))


def goes_on_to_border(found: Mask, ink: Pixels) -> bool:
    """Tell whether strokes are a part of what comes in from the border, as a finger does.

    In a corner a top hat (see `hats`) shows no more than the end of it.

    Args:
        found: (H, W), the strokes.
        ink: (H, W), how much the picture differs from the paper.
    """
    as_dark = ink >= AS_DARK * float(np.median(ink[found]))
    parts = components_of(as_dark)
    number = int(np.bincount(parts.labels[found], minlength=len(parts.area))[1:].argmax()) + 1
    whole = parts.area[number] <= WHOLE * np.count_nonzero(found)
    comes_in = whole and parts.at_border[number]
    return bool(comes_in and not _may_be_cut_off(parts, number, as_dark))


def _covers_a_side(dark: Mask) -> bool:
    """Tell whether both corners of a side are covered, as by a table or a shadow."""
    corners = dark[0, 0], dark[0, -1], dark[-1, -1], dark[-1, 0]
    return any(corners[i] and corners[i - 1] for i in range(4))

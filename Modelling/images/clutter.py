"""Whether what differs from the paper is a digit alone, or a shadow, a table or a box with it."""

from __future__ import annotations

import numpy as np

from Modelling.images.components import Mask, components_of
from Modelling.images.frames import straight_sides
from Modelling.images.thin import stroke_widths

# Share of the largest component's area that another one has to be looked at.
SMALL_PART = 0.03

# How many times as long as broad strokes are at least. A sheet or a shadow is 1 or little more.
SLIM = 1.2

# Stroke width, as a share of the picture's longer side, from which on straight sides are a sheet's.
WIDE = 0.2

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
        return True  # an only one may be a digit that was cut out tightly
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


def reaches_all_sides(dark: Mask) -> bool:
    """Tell whether what differs from the paper was cut out tightly: it touches all four sides."""
    return bool(dark[0].any() and dark[-1].any() and dark[:, 0].any() and dark[:, -1].any())


def _covers_a_side(dark: Mask) -> bool:
    """Tell whether both corners of a side are covered, as by a table or a shadow."""
    corners = dark[0, 0], dark[0, -1], dark[-1, -1], dark[-1, 0]
    return any(corners[i] and corners[i - 1] for i in range(4))

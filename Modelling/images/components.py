"""Connected components of a mask, and what their shapes tell.

Components are found by runs: each row's stretches of set pixels are joined with those below that
they touch (two-pass labelling with union of runs; He, Chao and Suzuki, "A run-based two-scan
labeling algorithm", IEEE Transactions on Image Processing 17, 2008), vectorised over all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Components:
    """The 8-connected components of a mask.

    Attributes:
        labels: (H, W), the number of the component that a pixel belongs to, 0 for none.
        area: (N + 1,), pixels of each; as all that follow, entry 0 is of no component.
        top, bottom, left, right: First and last row and column.
    """

    labels: Labels
    area: npt.NDArray[np.int64]
    top: npt.NDArray[np.intp]
    bottom: npt.NDArray[np.intp]
    left: npt.NDArray[np.intp]
    right: npt.NDArray[np.intp]

    @property
    def at_border(self) -> Mask:
        """Which of them touch the border."""
        height, width = self.labels.shape
        touching: Mask = np.minimum(self.top, self.left) == 0
        touching |= self.bottom == height - 1
        touching |= self.right == width - 1
        return touching

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Add up (H, W) over each of them."""
        weights = values.ravel().astype(np.float64)
        return np.bincount(self.labels.ravel(), weights, len(self.area)).astype(np.float64)

    def window(self, number: int) -> tuple[slice, slice]:
        """Give the rows and columns of a component's bounding box."""
        rows = slice(int(self.top[number]), int(self.bottom[number]) + 1)
        return rows, slice(int(self.left[number]), int(self.right[number]) + 1)

    @property
    def height(self) -> npt.NDArray[np.intp]:
        """Rows of each."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> npt.NDArray[np.intp]:
        """Columns of each."""
        return self.right - self.left + 1


def components_of(mask: Mask) -> Components:
    """Find the components of (H, W)."""
    height, width = mask.shape
    stride = width + 2  # one empty column at each side: runs end with their row
    padded = np.zeros((height, stride), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel())
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    roots = _joined(starts, ends, stride)
    unique, numbers = np.unique(roots, return_inverse=True)
    count = len(unique) + 1
    numbers = numbers + 1
    lengths = ends - starts
    rows, first, last = starts // stride, starts % stride - 1, (ends - 1) % stride - 1
    labels = np.zeros((height, width), np.intp)
    labels[mask] = np.repeat(numbers, lengths)
    area = np.bincount(numbers, lengths, count).astype(np.int64)
    top, left = np.full(count, height), np.full(count, width)
    bottom, right = np.full(count, -1), np.full(count, -1)
    np.minimum.at(top, numbers, rows)
    np.minimum.at(left, numbers, first)
    np.maximum.at(bottom, numbers, rows)
    np.maximum.at(right, numbers, last)
    return Components(labels, area, top, bottom, left, right)


def _joined(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], stride: int
) -> npt.NDArray[np.intp]:
    """Give each run the lowest number of all runs that it is connected with."""
    # A run touches those of the next row that begin before its end and end after its start.
    low = np.searchsorted(ends, starts + stride, "left")
    high = np.searchsorted(starts, ends + stride, "right")
    touching = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(starts)), touching)
    below = np.arange(len(above)) - np.repeat(np.cumsum(touching) - touching, touching)
    below += np.repeat(low, touching)
    roots: npt.NDArray[np.intp] = np.arange(len(starts))
    while True:
        least = np.minimum(roots[above], roots[below])
        before = roots.copy()
        np.minimum.at(roots, roots[above], least)
        np.minimum.at(roots, roots[below], least)
        roots = roots[roots]
        if (roots == before).all():
            return roots

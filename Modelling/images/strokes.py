"""The strokes of a digit on a photograph, wherever it lies and whatever lies beside it.

The digit is the component of a top hat (see `hats`) with the longest strokes of the strongest
contrast, edged all around (see `thin`). What a hat finds besides is told apart by its shape: a
printed box (see `frames`), the paper between two strokes, what comes in from the border, as fingers
do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from Modelling.images.components import Components, Mask, components_of
from Modelling.images.frames import frames_in
from Modelling.images.hats import Bytes, Hat, hats_of
from Modelling.images.masks import grown
from Modelling.images.pixels import Pixels
from Modelling.images.thin import Thin, stroke_widths

# Least score of a digit. Fingers have up to 3,000, faint pencil 3,800 and more.
LEAST_SCORE = 2000

# Score from which on a digit is so clear in one channel that the others need not be looked at.
GOOD_SCORE = 4000

# Of further parts of a digit, in shares of its first part: height or width, distance, stroke
# width, contrast; and the cosine between their colours' distances from the paper.
PART_EXTENT = 0.12
PART_DISTANCE = 0.25
PART_WIDTH = (0.45, 1.8)
PART_SLIM = 1.25
PART_HEIGHT = 0.6
PART_COLOUR = 0.95

# Share of full ink that the strokes' cores have at least.
CORE = 0.35

# Quantile of the cores that is full ink, and the share of it below which a pixel is paper.
FULL = 0.8
FLOOR = 0.25

# Pixels around the cores that are still theirs.
SOFT_EDGE = 2

# Height of a hat that noise has at least, of 255.
NO_NOISE = 3

# Added to brightness, of 255, before something is divided by it.
DARK = 13


@dataclass(frozen=True)
class Strokes:
    """What is found on a photograph.

    Attributes:
        ink: (H, W), from 0 for paper to 1 for ink; None if there is no digit.
        cut_off: There is what seems to be one that the border cuts off.
        written: (H, W), all that the same pen has written, wherever it stands.
    """

    ink: Pixels | None
    cut_off: bool = False
    written: Mask = field(default_factory=lambda: np.zeros((0, 0), bool))


def strokes_on(picture: Bytes) -> Strokes:
    """Find a digit's strokes on (H, W, C)."""
    hats = list(hats_of(picture))
    clearest = max(range(0, len(hats), 2), key=lambda i: _clearness(hats[i], hats[i + 1]))
    found = _Found(hats[clearest : clearest + 2])
    if found.score < GOOD_SCORE and len(hats) > 2:
        found = _Found(hats)
    if found.core is None:
        return Strokes(None, found.cut_off)
    ink, colours = _matched(hats, found.core)
    if found.frames is not None:
        ink[found.frames] = 0
    return _with_its_parts(ink, colours, found.core)


def _clearness(dark: Hat, light: Hat) -> float:
    """Tell how far a channel's thin things stand out from its noise."""
    height = np.maximum(dark.height, light.height)[::2, ::2]
    most, usual = np.quantile(height, [0.99, 0.5])
    return float(most / (usual + NO_NOISE))


class _Found:
    """What is found in some hats: printed boxes, and the component that is most like a digit.

    Attributes:
        frames: (H, W), the lines of printed boxes, or None.
        core: (H, W), the component, or None.
        score: Its score, see `thin`.
        cut_off: There is one at the border, alone or around it.
    """

    def __init__(self, hats: Sequence[Hat]) -> None:
        found = [Thin(hat) for hat in hats]
        self.frames = _frames(found)
        if self.frames is not None:
            found = [Thin(hat, without=self.frames) for hat in hats]
        self.score = 0.0
        self.core: Mask | None = None
        self.cut_off = False
        self._choose(found)

    def _choose(self, found: Sequence[Thin]) -> None:
        candidates = [
            (float(thin.score[number]), index, int(number))
            for index, thin in enumerate(found)
            for number in np.flatnonzero(thin.may_be_ink & (thin.score >= LEAST_SCORE))
        ]
        at_border: list[tuple[Components, int]] = []
        for score, index, number in sorted(candidates, reverse=True):
            components = found[index].components
            if components.at_border[number]:
                at_border.append((components, number))
            elif not found[index].is_boxy(number):
                if not any(_encloses(*each, components, number) for each in at_border):
                    self.score, self.core = score, components.labels == number
                    return
                break
        self.cut_off = bool(at_border)


def _frames(found: Sequence[Thin]) -> Mask | None:
    """Find the lines of printed boxes."""
    lines = [frames_in(thin.components, thin.shortest) for thin in found]
    there = [each for each in lines if each is not None]
    return grown(np.logical_or.reduce(there), 1) if there else None


def _encloses(outer: Components, number: int, inner: Components, other: int) -> bool:
    return bool(
        outer.top[number] <= inner.top[other] and outer.bottom[number] >= inner.bottom[other]
        and outer.left[number] <= inner.left[other] and outer.right[number] >= inner.right[other]
    )  # fmt: skip


def _matched(hats: Sequence[Hat], core: Mask) -> tuple[Pixels, list[Pixels]]:
    """Add up the channels as they show what is under a mask: its ink is 1.

    Returns:
        The sum, and how much each channel differs from the paper, as a share of the paper.
    """
    ink = np.zeros(core.shape, np.float32)
    colours = []
    total = 0.0
    for dark, light in zip(hats[::2], hats[1::2], strict=True):
        hat = dark if dark.height[core].mean() >= light.height[core].mean() else light
        surroundings = hat.surroundings.astype(np.float32)
        difference = hat.sign * (surroundings - hat.pixels)
        weight = float(difference[core].mean())
        share = difference / (surroundings + DARK)
        ink += weight * share
        total += weight * float(share[core].mean())
        colours.append(hat.sign * share)
    return ink / np.float32(max(total, 1e-6)), colours


def _with_its_parts(ink: Pixels, colours: Sequence[Pixels], core: Mask) -> Strokes:
    """Keep the component under a mask, and those beside it that are of the same pen."""
    parts = components_of(ink > CORE)
    first = int(np.bincount(parts.labels[core], minlength=len(parts.area))[1:].argmax()) + 1
    extent = max(parts.height[first], parts.width[first])
    far = PART_DISTANCE * extent
    widths = stroke_widths(parts)
    near = (parts.top <= parts.bottom[first] + far) & (parts.bottom >= parts.top[first] - far)
    near &= (parts.left <= parts.right[first] + far) & (parts.right >= parts.left[first] - far)
    taken = ~parts.at_border
    # A printed box, which was not found as one, lies around the digit.
    taken &= (parts.top > parts.top[first]) | (parts.bottom < parts.bottom[first]) | (
        (parts.left > parts.left[first]) | (parts.right < parts.right[first])
    )  # fmt: skip
    taken &= np.maximum(parts.height, parts.width) >= PART_EXTENT * extent
    taken &= (widths >= PART_WIDTH[0] * widths[first]) & (widths <= PART_WIDTH[1] * widths[first])
    taken &= parts.area >= PART_SLIM * widths**2
    taken &= parts.sums(ink) >= PART_HEIGHT * parts.area
    pens = np.stack([parts.sums(each) / np.maximum(parts.area, 1) for each in colours])
    lengths = np.sqrt((pens**2).sum(0))
    likeness = pens[:, first] @ pens / np.maximum(lengths * lengths[first], 1e-9)
    taken &= likeness >= PART_COLOUR
    taken[0], taken[first] = False, True
    mine = (taken & near)[parts.labels]
    around = grown(mine, SOFT_EDGE) & (mine | (parts.labels == 0))
    full = np.quantile(ink[mine], FULL)
    kept: Pixels = np.where(around, np.clip(ink / np.float32(full), 0, 1), np.float32(0))
    kept[kept < FLOOR] = 0
    return Strokes(kept, written=taken[parts.labels])

"""Which of the thin things on a picture may be ink: those with long strokes and edges all around.

Stroke width as the mark of writing: Epshtein, Ofek and Wexler, "Detecting Text in Natural Scenes
with Stroke Width Transform" (CVPR 2010).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from Modelling.images.components import Components, Mask, components_of
from Modelling.images.frames import straight_sides
from Modelling.images.hats import Hat

# Least height or width of a digit, as a share of the picture's shorter side.
SMALLEST = 0.1

# Least height of a hat, of 255, that is no noise, and in multiples of the noise there is.
LEAST_HEIGHT = 7
NOISE = 6 * 1.4826

# Share of its mean height down to which a component of a hat goes.
HALF = 0.5

# Pixels at each side of an outline between which the picture is to change, and by which share of
# the contrast. A picture that was enlarged or is out of focus has broad edges.
ACROSS = 2
CHANGE = 0.15

# Share of the outline along which it changes. The paper between a stroke and a table's edge has
# such edges on two sides.
EDGED = 0.6

# How many times as long as broad strokes are; beyond it makes no difference.
SLIM = 6

# Stroke widths that a component has in height and width at least, and straight sides, to be a box.
BOXY, BOXY_SIDES = 1.6, 3

Floats = npt.NDArray[np.float64]


class Thin:
    """The components of one hat, and what they look like.

    Attributes:
        hat: The hat.
        components: Its components.
        shortest: Pixels that a digit has in height or width at least.
        may_be_ink: Of each component, whether it is large enough and edged.
        score: The product of a component's contrast, length, slimness and edges.
    """

    def __init__(self, hat: Hat, without: Mask | None = None) -> None:
        """Look at a hat.

        Args:
            hat: The hat.
            without: (H, W), what is known to be no ink.
        """
        self.hat = hat
        height = hat.height
        if without is not None:
            height = np.where(without, np.uint8(0), height)
        sample = height[::2, ::2].astype(np.int16)
        median = float(np.median(sample))
        noise = float(np.median(np.abs(sample - median)))
        mask = height > median + max(LEAST_HEIGHT, NOISE * noise)
        rough = components_of(mask)
        # Each down to half of its own height: so what is close together comes apart.
        own = rough.sums(height.astype(np.float32) ** 2) / np.maximum(rough.sums(height), 1)
        mask &= height >= (HALF * own)[rough.labels]
        self.components = components = components_of(mask)
        contrast = components.sums(height) / np.maximum(components.area, 1)
        self._widths = stroke_widths(components)
        lengths = components.area / self._widths
        edged = _edged(components, hat, contrast)
        self.shortest = SMALLEST * min(mask.shape)
        extent = np.maximum(components.height, components.width)
        self.may_be_ink: Mask = (extent >= self.shortest) & (edged > EDGED)
        slim = np.minimum(lengths / self._widths, SLIM)
        edges = np.clip((edged - EDGED) / (1 - EDGED), 0, 1)
        self.score: Floats = contrast * lengths * slim * edges**2

    def is_boxy(self, number: int) -> bool:
        """Tell whether a component is the paper between strokes, or beside them."""
        parts = self.components
        if min(parts.height[number], parts.width[number]) < BOXY * self._widths[number]:
            return False  # a 1 may be
        return straight_sides(parts.labels[parts.window(number)] == number) >= BOXY_SIDES


def stroke_widths(components: Components) -> npt.NDArray[np.int64]:
    """Tell how broad each component is where it is broadest, in pixels."""
    widths = np.ones(len(components.area), np.int64)
    inner = components.labels > 0
    layers = 0
    while inner.any():
        widths[components.labels[inner]] = 2 * layers + 1
        inner = peeled(inner)
        layers += 1
    return widths


def peeled(mask: Mask) -> Mask:
    """Take away the outermost pixels of (H, W), and those at the border."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    inner[0] = inner[-1] = inner[:, 0] = inner[:, -1] = False
    return inner


def _edged(components: Components, hat: Hat, contrast: Floats) -> Floats:
    """Tell along which share of its outline the picture changes, for each component."""
    from PIL import Image, ImageFilter

    smooth = Image.fromarray(hat.level).filter(ImageFilter.BoxBlur(1))
    level = hat.sign * np.pad(np.asarray(smooth).astype(np.int16), ACROSS, mode="edge")
    labels = components.labels
    outer = np.pad(labels, 1)
    height, width = labels.shape
    outline = np.zeros(len(contrast), np.int64)
    changes = np.zeros(len(contrast), np.int64)
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        next_to = outer[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        rows, columns = np.nonzero((labels > 0) & (next_to != labels))
        numbers = labels[rows, columns]
        there = level[rows + ACROSS * (1 + down), columns + ACROSS * (1 + right)]
        back = level[rows + ACROSS * (1 - down), columns + ACROSS * (1 - right)]
        outline += np.bincount(numbers, minlength=len(contrast))
        changed = there - back >= CHANGE * contrast[numbers]
        changes += np.bincount(numbers[changed], minlength=len(contrast))
    edged: Floats = changes / np.maximum(outline, 1)
    return edged

"""The picture that `predict_cnn --show` draws: images, and what a model sees and makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from DurableText.program.wording import printable
from Modelling.training.plots import (
    TRAINING_COLOUR,
    VALIDATION_COLOUR,
    displayable,
    new_figure,
    remove_frame,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Classes whose probability is drawn: the most probable, in the order of their indices.
BARS_SHOWN = 10

# Of them, the most probable ones, have their percentage written beside them.
BARS_NAMED = 3

# Images below each other; more begin a new column.
ROWS_IN_COLUMN = 12

# More would make a picture that nobody can open.
MAX_IMAGES = 300

# With more images than this each is drawn smaller.
DPI = 110
MANY, MANY_DPI = 48, 60

# Characters; of a name the end is kept, of a label the beginning.
LONGEST_NAME, LONGEST_LABEL = 28, 18

FRAME_COLOUR, QUIET, INK = "#c8ccd0", "#6b7480", "#22272d"


@dataclass(frozen=True)
class Row:
    """One image of the picture.

    Attributes:
        name: Of its file.
        given: (H, W), (H, W, 3) or (H, W, 4) of any type, as `decode_image` returns it.
        seen: (H, W, C) float32 in [0, 1], what the model was given.
        probabilities: (classes,).
    """

    name: str
    given: npt.NDArray[Any]
    seen: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]


def draw_predictions(rows: Sequence[Row], labels: Sequence[str], file: Path) -> None:
    """Draw images as given, as the model sees them, and what it makes of them.

    Args:
        rows: The images; of more than 300 the first are drawn.
        labels: Names of the classes.
        file: The picture to write; its suffix names the format.

    Raises:
        ValueError: The suffix names no format that can be written.
    """
    rows = rows[:MAX_IMAGES]
    columns = max(math.ceil(len(rows) / ROWS_IN_COLUMN), 1)
    if columns > 2:
        columns = math.ceil(math.sqrt(len(rows) / 3))  # about as wide as high
    height = math.ceil(len(rows) / columns)
    figure = new_figure(7.2 * columns, 0.5 + 1.75 * height)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.06, h_pad=0.08, wspace=0.03, hspace=0.02)
    grid = figure.subplots(height, 3 * columns, squeeze=False, width_ratios=(1, 1, 2.1) * columns)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, row in enumerate(rows):
        column, line = divmod(index, height)
        given, seen, bars = grid[line, 3 * column : 3 * column + 3]
        _draw_image(given, as_bytes(row.given), _shortened_name(row.name))
        _draw_image(seen, as_bytes(row.seen), "")
        _draw_bars(bars, row.probabilities, labels)
        if line == 0:
            for axes, text in ((given, "as given"), (seen, "as the model sees it")):
                axes.set_title(text, fontsize=9, color=QUIET, loc="left")
            bars.set_title("what it makes of it", fontsize=9, color=QUIET, loc="left")
    save(figure, file, DPI if len(rows) <= MANY else MANY_DPI)


def as_bytes(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Make an image of any type that can be classified into uint8, as imshow shows all alike."""
    from Modelling.images.pixels import unit_range

    image = displayable(image)
    return image if image.dtype == np.uint8 else np.rint(unit_range(image) * 255).astype(np.uint8)


def _draw_image(axes: Axes, image: npt.NDArray[np.uint8], name: str) -> None:
    axes.set_axis_on()
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=FRAME_COLOUR, linewidth=0.7)
    axes.set_anchor("NW")
    axes.set_xlabel(name, fontsize=8, color=INK, loc="left", labelpad=3, parse_math=False)


def _shortened_name(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else f"…{name[-LONGEST_NAME + 1 :]}"


def _draw_bars(axes: Axes, probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> None:
    axes.set_axis_on()
    order = [int(index) for index in np.argsort(-probabilities, kind="stable")[:BARS_SHOWN]]
    shown, named = sorted(order), order[:BARS_NAMED]
    colours = [VALIDATION_COLOUR if index == order[0] else TRAINING_COLOUR for index in shown]
    axes.barh(range(len(shown)), probabilities[shown], color=colours, height=0.72)
    names = [_shortened_label(labels[index]) for index in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=7.5, color=INK, parse_math=False)
    for place, index in enumerate(shown):
        if index in named and probabilities[index] >= 0.0005:
            axes.text(
                min(float(probabilities[index]), 1) + 0.015, place, f"{probabilities[index]:.1%}",
                va="center", fontsize=7.5, color=INK if index == order[0] else QUIET,
                fontweight="bold" if index == order[0] else "normal",
            )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 1.16)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=3)
    remove_frame(axes)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set(color=FRAME_COLOUR, linewidth=0.7)


def _shortened_label(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"

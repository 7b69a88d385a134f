"""The pictures that training leaves: the course of the loss, and what the model gets wrong."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from Modelling.network.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING_COLOUR, VALIDATION_COLOUR = "#9aa5b1", "#1f5fa8"
WRONG_COLOUR = "#c0392b"

# How a note at the top of a panel is placed.
_ABOVE: dict[str, Any] = {
    "xycoords": ("data", "axes fraction"),
    "textcoords": "offset points",
    "fontsize": 8,
    "color": "#333333",
}

# By suffix.
PICTURE_FORMATS = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".svg": "svg", ".pdf": "pdf",
}  # fmt: skip

# In a grid of 4 x 5 beside the confusion matrix.
MISTAKES_SHOWN = 20


def draw_loss(
    history: dict[str, list[float]],
    best_epoch: int,
    eight_bit_epochs: int,
    title: str,
    file: Path,
    trained_on: str = "distorted images",
) -> None:
    """Draw loss and accuracy by epoch, for training and validation.

    Args:
        history: `loss`, `accuracy`, `val_loss`, `val_accuracy`: one value an epoch.
        best_epoch: The epoch, from 1, from whose weights the last ones went on.
        eight_bit_epochs: How many of the epochs, at the end, ran in 8 bits.
        title: Stands above.
        file: The PNG to write.
        trained_on: What the training's curve is of.
    """
    figure = new_figure(10, 4)
    epochs = range(1, len(history["loss"]) + 1)
    first_in_eight_bits = len(epochs) - eight_bit_epochs + 0.5
    panels = (("loss", "Loss (cross-entropy)"), ("accuracy", "Wrong (%)"))
    for axes, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for prefix, colour, who in (
            ("", TRAINING_COLOUR, f"training ({trained_on})"),
            ("val_", VALIDATION_COLOUR, "validation"),
        ):
            values = np.array(history[prefix + name])
            axes.plot(
                epochs, values if name == "loss" else 100 * (1 - values),
                color=colour, label=who, linewidth=1.8, marker="o", markersize=3,
            )  # fmt: skip
        axes.axvline(best_epoch, color="#333333", linewidth=0.8, linestyle=":")
        axes.annotate("best before 8 bits", (best_epoch, 1), **_ABOVE, ha="right", xytext=(-3, -9))
        if eight_bit_epochs:
            axes.axvspan(first_in_eight_bits, len(epochs) + 0.3, color="#f3ead7", zorder=0)
            axes.annotate("8 bits", (first_in_eight_bits, 1), **_ABOVE, xytext=(3, -9))
        _scale_logarithmically(axes)
        axes.set_title(label, loc="left", fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=True, which="both", linewidth=0.3, alpha=0.5)
        remove_frame(axes)
    figure.axes[0].legend(frameon=False, fontsize=9, loc="center right")
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", parse_math=False)
    save(figure, file)


def _scale_logarithmically(axes: Axes) -> None:
    """Set a logarithmic scale with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_confusion(
    images: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    labels: Sequence[str],
    title: str,
    file: Path,
) -> None:
    """Draw the confusion matrix, and beside it the mistakes that the model was surest of.

    Args:
        images: (N, H, W, C) uint8.
        classes: (N,) true classes.
        probabilities: (N, classes) as predicted.
        labels: Names of the classes.
        title: Stands above.
        file: The PNG to write.
    """
    figure = new_figure(13, 6)
    matrix_part, mistakes_part = figure.subfigures(1, 2, width_ratios=(1.05, 1))
    predicted = probabilities.argmax(1)
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(matrix, (classes, predicted), 1)
    _draw_matrix(matrix_part.subplots(), matrix, labels)
    wrong = np.flatnonzero(predicted != classes)
    order = np.argsort(-probabilities[wrong].max(1), kind="stable")
    surest = [int(index) for index in wrong[order][:MISTAKES_SHOWN]]
    grid = mistakes_part.subplots(4, 5)
    between = " read as " if _short(labels) else "\nread as "
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, surest, strict=False):
        axes.imshow(displayable(images[index]), cmap="gray_r", interpolation="nearest")
        axes.set_title(
            f"{labels[classes[index]]}{between}{labels[predicted[index]]}\n"
            f"{probabilities[index].max():.1%} sure",
            fontsize=7, color=WRONG_COLOUR, parse_math=False,
        )  # fmt: skip
    shown = f"{len(surest)} of them" if len(surest) < len(wrong) else "all of them"
    mistakes_part.suptitle(
        f"{len(wrong)} mistakes in {len(classes):,}; {shown}, the surest first", fontsize=10
    )
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", parse_math=False)
    save(figure, file)


def _draw_matrix(axes: Axes, matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> None:
    mistakes = matrix - np.diag(np.diag(matrix))
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1, int(mistakes.max())))
    if len(labels) <= 20:
        for row, column in np.ndindex(*matrix.shape):
            count = int(matrix[row, column])
            dark = mistakes[row, column] > mistakes.max() / 2
            colour = "#bbbbbb" if row == column else "white" if dark else "black"
            if count:
                axes.text(
                    column, row, str(count), ha="center", va="center", fontsize=8, color=colour
                )
        turned = 0 if _short(labels) else 45
        axes.set_xticks(range(len(labels)), labels, rotation=turned, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _short(labels: Sequence[str]) -> bool:
    return max(len(label) for label in labels) <= 2


def displayable(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Drop the channel axis of a grey (H, W, 1) image, as imshow wants it."""
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of so many inches."""
    # No pyplot: it looks for a screen, and keeps figures alive.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def remove_frame(axes: Axes) -> None:
    """Leave the lines at the left and at the bottom."""
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, file: Path, dpi: int = 110) -> None:
    """Write a figure atomically, in the format that the file's suffix names.

    Raises:
        ValueError: It names none that can be written.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A sign that the font lacks (a Chinese name, say) is drawn as a box, and warned of each.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(buffer, format=picture_format(file), dpi=dpi)
    write_atomically(file, buffer.getvalue())


def picture_format(file: Path) -> str:
    """Find the format that a picture's suffix names.

    Raises:
        ValueError: It is none of those that can be written.
    """
    suffix = file.suffix.lower()
    if suffix not in PICTURE_FORMATS:
        raise ValueError(f"{file}: a picture's name ends in {', '.join(PICTURE_FORMATS)}")
    return PICTURE_FORMATS[suffix]

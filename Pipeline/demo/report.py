"""The demo's table and picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from DurableText.moments import seconds_of
from DurableText.program.wording import rate_in_words
from DurableText.storage import write_file
from Modelling.data_preparation import bundled_test_images

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

Row = dict[str, Any]

SHEET_COLUMNS, SHEET_ROWS = 20, 10
# The last rows show what was misread; those above are as they come, so that a look is a fair one.
MISREAD_ROWS = 2
INK, RIGHT, WRONG, PAPER = "#1d3557", "#2a9d8f", "#d62839", "#fbfaf7"


def latencies_ms(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """Milliseconds from published to stored, for each row."""
    return np.array([1e3 * _seconds(row["published_at"], row["stored_at"]) for row in rows])


def table_of(rows: Sequence[Row], *, published: int, dead_lettered: int) -> str:
    """Return what a person wants to know of a run."""
    p50, p95, p99 = np.percentile(latencies_ms(rows), (50, 95, 99))
    right = sum(row["label"] == row["expected_label"] for row in rows)
    seconds = _seconds(min(r["published_at"] for r in rows), max(r["stored_at"] for r in rows))
    rate = rate_in_words(len(rows) / seconds, " images")
    lines = {
        "published": f"{published:,}",
        "stored": f"{len(rows):,}",
        "dead-lettered": f"{dead_lettered:,}",
        "accuracy": f"{right / len(rows):.2%}  ({len(rows) - right:,} misread)",
        "throughput": f"{rate}  (first published to last stored)",
        "waited": f"p50 {p50:,.0f} ms   p95 {p95:,.0f} ms   p99 {p99:,.0f} ms"
        "  (published to stored; all were offered at once, so most of it in line)",
        "model": ", ".join(sorted({row["model"] for row in rows})),
    }
    return "\n" + "\n".join(f"  {name:<14} {text}" for name, text in lines.items())


def draw_picture(rows: Sequence[Row], path: Path) -> None:
    """Draw a sheet of images with their labels, and the distribution of the latencies."""
    figure = Figure(figsize=(14, 11), facecolor=PAPER)
    sheet, curve = figure.subfigures(2, 1, height_ratios=(7, 3), hspace=0.0)
    for part in (sheet, curve):
        part.set_facecolor(PAPER)
    right = sum(row["label"] == row["expected_label"] for row in rows)
    sheet.suptitle(
        f"{len(rows):,} images through the pipeline, {right / len(rows):.2%} read as labelled\n"
        "(every n-th of them; last, red, what was misread)",
        fontsize=14,
        color=INK,
        fontweight="bold",
        y=0.985,
    )
    _draw_sheet(sheet, rows)
    _draw_latencies(curve, latencies_ms(rows))
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=110, facecolor=PAPER)
    write_file(path, picture.getvalue())


def _draw_sheet(figure: SubFigure, rows: Sequence[Row]) -> None:
    images, _ = bundled_test_images()
    axes = figure.subplots(
        SHEET_ROWS,
        SHEET_COLUMNS,
        gridspec_kw={"left": 0.02, "right": 0.98, "top": 0.91, "bottom": 0.02, "hspace": 0.45},
    ).ravel()
    for axis, row in zip(axes, _selection(rows), strict=False):
        correct = row["label"] == row["expected_label"]
        axis.imshow(images[int(row["source"].rsplit("/", 1)[1])], cmap="bone_r")
        text = row["label"] if correct else f"{row['label']} for {row['expected_label']}"
        axis.set_title(
            text,
            fontsize=9,
            pad=2,
            color=RIGHT if correct else WRONG,
            fontweight="normal" if correct else "bold",
        )
        for spine in axis.spines.values():
            spine.set_color("#d8d5cc" if correct else WRONG)
            spine.set_linewidth(0.8 if correct else 2.0)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_visible(axis.has_data())


def _selection(rows: Sequence[Row]) -> list[Row]:
    """Every n-th image, in the test set's order, and in the last rows those that were misread."""
    ordered = sorted(rows, key=lambda row: int(row["source"].rsplit("/", 1)[1]))
    wrong = [row for row in ordered if row["label"] != row["expected_label"]]
    wrong = wrong[: MISREAD_ROWS * SHEET_COLUMNS]
    misread_rows = -(-len(wrong) // SHEET_COLUMNS)
    fair = (SHEET_ROWS - misread_rows) * SHEET_COLUMNS
    every = max(1, len(ordered) // fair)
    return ordered[::every][:fair] + wrong


def _draw_latencies(figure: SubFigure, latencies: npt.NDArray[np.float64]) -> None:
    axis = figure.subplots(gridspec_kw={"left": 0.06, "right": 0.97, "top": 0.86, "bottom": 0.22})
    axis.set_facecolor(PAPER)
    axis.hist(latencies, bins=80, color=RIGHT, alpha=0.85)
    top = 1.4 * axis.get_ylim()[1]  # the labels stand above the bars
    axis.set_ylim(0, top)
    # Each line ends at its label, so that none crosses one further to the right.
    for percent, height in ((50, 0.82), (95, 0.91), (99, 1.0)):
        value = float(np.percentile(latencies, percent))
        axis.vlines(value, 0, height * top, color=INK, linewidth=1.2, linestyle="--")
        axis.text(
            value,
            height * top,
            f"p{percent}  {value:,.0f} ms ",
            color=INK,
            fontsize=9,
            va="top",
            ha="right",
        )
    axis.set_title(
        "from published to durable in the DB, all images offered at once",
        fontsize=12,
        color=INK,
        loc="left",
    )
    axis.set_xlabel("milliseconds, most of them waiting in line")
    axis.set_ylabel("images")
    axis.spines[["top", "right"]].set_visible(False)


def _seconds(start: str, end: str) -> float:
    return (seconds_of(end) or 0.0) - (seconds_of(start) or 0.0)

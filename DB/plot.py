"""The summary as a picture. The only module of the DB that imports matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, NullFormatter

from DB.compare import Comparison
from DB.summary import Summary
from DurableText.program.wording import counted, rate_in_words
from DurableText.storage import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, ACCENT, WRONG = "#1f2933", "#9aa5b1", "#2a6f97", "#c1554e"
# Labels drawn; with more the rarest are left out and the title says so.
MAX_BARS = 20
# Of a name: some are whole texts, and would leave the bars no room.
MAX_CHARACTERS = 20


def plot(summary: Summary, path: str | os.PathLike[str]) -> None:
    """Draw labels, confusions, latency and throughput into the image file `path`.

    Raises:
        OSError: the file cannot be written.
        ValueError: its suffix is no image format.
    """
    with mpl.rc_context({"text.parse_math": False}):  # a label may hold dollars that are no formula
        _write(_draw(summary), Path(path))


def _write(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:] or None, dpi=130)
    write_file(path, picture.getvalue())


def _draw(summary: Summary) -> Figure:
    figure = Figure(figsize=(12, 7.5), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 2)
    figure.suptitle(_headline(summary), fontsize=15, color=INK, fontweight="bold")
    _draw_labels(axes[0][0], summary)
    _draw_confusions(axes[0][1], summary)
    _draw_latency(axes[1][0], summary)
    _draw_throughput(axes[1][1], summary)
    _style(axes.flat)
    return figure


def _style(axes: Iterable[Axes]) -> None:
    for ax in axes:
        ax.tick_params(colors=INK, labelsize=9)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_color(SOFT)


def _headline(summary: Summary) -> str:
    parts = [counted(summary.rows, "result")]
    if summary.accuracy is not None:
        parts.append(f"{summary.accuracy:.2%} right")
    if summary.throughput is not None:
        parts.append(rate_in_words(summary.throughput, " results"))
    return "   ·   ".join(parts)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=11, color=INK)


def _nothing(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=ax.transAxes)
    ax.set_xticks([])
    ax.set_yticks([])


def _draw_labels(ax: Axes, summary: Summary) -> None:
    most = sorted(summary.labels, key=lambda label: -summary.labels[label])
    labels = sorted(most[:MAX_BARS])
    left_out = len(summary.labels) - len(labels)
    _title(ax, "Results per label" + (f" ({left_out} rarer ones left out)" if left_out else ""))
    if not labels:
        _nothing(ax, "no results")
        return
    numbers = range(len(labels))
    heights = [summary.labels[label] for label in labels]
    bars = ax.bar(numbers, heights, color=ACCENT, width=0.75)
    ax.set_xticks(numbers, map(_brief, labels))
    if len(labels) <= 12:
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=8, color=INK, padding=2)
    ax.set_ylim(0, max(summary.labels.values()) * 1.12)
    ax.tick_params(axis="x", rotation=0 if max(map(len, labels)) < 4 else 45)


def _draw_confusions(ax: Axes, summary: Summary) -> None:
    wrong = summary.known - summary.correct
    _title(ax, f"Misread: {wrong:,} of {summary.known:,}, most frequent pairs")
    if not summary.known:
        _nothing(ax, "no expected labels known")
    elif not summary.confusions:
        _nothing(ax, "not a single one")
    else:
        most = summary.confusions[:12][::-1]
        names = [f"{_brief(expected)} taken for {_brief(given)}" for expected, given, _ in most]
        _bars(ax, names, [count for _, _, count in most], "{:,.0f}", WRONG)
        _count_in_whole_numbers(ax)


def _draw_latency(ax: Axes, summary: Summary) -> None:
    _title(ax, "Latency from published to stored (s, share of results that were faster)")
    if not summary.latencies:
        _nothing(ax, "no times of publication")
        return
    total, seen, xs, ys = sum(n for _, n in summary.latencies), 0, [], []
    for seconds, count in summary.latencies:
        seen += count
        xs.append(seconds)
        ys.append(seen / total)
    ax.plot([xs[0], *xs], [0.0, *ys], color=ACCENT, linewidth=2, drawstyle="steps-post")
    ax.fill_between(xs, ys, color=ACCENT, alpha=0.12, step="post", linewidth=0)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.04)
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    shown = (
        ("p50", summary.latency_p50),
        ("p95", summary.latency_p95),
        ("p99", summary.latency_p99),
    )
    for height, (name, value) in zip((0.06, 0.16, 0.26), shown, strict=True):
        if value is not None:
            ax.axvline(value, color=SOFT, linewidth=1, linestyle=":")
            ax.annotate(
                f"{name} {value:.3g} s",
                (value, height),
                xytext=(4, 0),
                textcoords="offset points",
                ha="left",
                fontsize=9,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )


def _draw_throughput(ax: Axes, summary: Summary) -> None:
    _title(ax, "Results stored per second, over time (s)")
    if len(summary.time_line) < 2:
        _nothing(ax, "all stored within a second")
        return
    xs = [x for x, _ in summary.time_line]
    ys = [y for _, y in summary.time_line]
    ax.step(xs, ys, where="post", color=ACCENT, linewidth=1.5)
    ax.fill_between(xs, ys, color=ACCENT, alpha=0.12, step="post", linewidth=0)
    ax.set_ylim(0, max(ys) * 1.1)
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")


def plot_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Draw where a shadow differs from what was served, and who is right, into a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: its suffix is no image format.
    """
    with mpl.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(12, 6), layout="constrained", facecolor="white")
        axes = figure.subplot_mosaic("PR;PT")
        figure.suptitle(_of_comparison(comparison), fontsize=13, color=INK, fontweight="bold")
        _draw_pairs(axes["P"], comparison)
        _draw_right(axes["R"], comparison)
        _draw_times(axes["T"], comparison)
        _style(axes.values())
        _write(figure, Path(path))


def _of_comparison(comparison: Comparison) -> str:
    told = comparison.as_dict()
    parts = [
        _brief(comparison.model, MAX_CHARACTERS * 2),
        f"{comparison.compared:,} of {comparison.results:,} results",
    ]
    if told["agreement"] is not None:
        parts.append(f"{told['agreement']:.2%} alike")
    if told["confidence_shift"] is not None:
        parts.append(f"confidence {told['confidence_shift']:+.4f}")
    return "   ·   ".join(parts)


def _draw_pairs(ax: Axes, comparison: Comparison) -> None:
    most = comparison.pairs.most_common(MAX_BARS)[::-1]
    left_out = len(comparison.pairs) - len(most)
    more = f" ({left_out} rarer pairs left out)" if left_out else ""
    _title(ax, f"served → shadow, where they differ{more}")
    if not comparison.compared:
        _nothing(ax, "no result has an answer of the shadow")
    elif not most:
        _nothing(ax, "not a single one")
    else:
        names = [f"{_brief(ours)} → {_brief(theirs)}" for (ours, theirs), _ in most]
        _bars(ax, names, [count for _, count in most], "{:,.0f}", WRONG)
        _count_in_whole_numbers(ax)


def _draw_right(ax: Axes, comparison: Comparison) -> None:
    _title(ax, f"The only one to be right, of {comparison.known:,} known")
    if not comparison.known:
        _nothing(ax, "no expected labels known")
        return
    p_value = comparison.p_value
    told = "no difference" if p_value is None else f"sign test: p = {p_value:.3g}"
    counts = [comparison.only_shadow, comparison.only_served]
    _bars(ax, ["the shadow", "the served"], counts, "{:,.0f}", ACCENT)
    ax.set_xlim(0, max(1, *counts) * 1.15)
    _count_in_whole_numbers(ax)
    ax.set_xlabel(told, color=INK, fontsize=9)


def _draw_times(ax: Axes, comparison: Comparison) -> None:
    _title(ax, "From received to predicted, p50 (ms)")
    told = comparison.as_dict()
    times = [told["shadow_latency_p50"], told["served_latency_p50"]]
    if None in times:
        _nothing(ax, "no times")
        return
    _bars(ax, ["the shadow", "the served"], [1e3 * each for each in times], "{:,.3g}", SOFT)


def _bars(ax: Axes, names: list[str], values: Sequence[float], form: str, colour: str) -> None:
    """Draw bars from left to right; by their numbers, as two names may be alike."""
    bars = ax.barh(range(len(names)), values, color=colour, height=0.7)
    ax.set_yticks(range(len(names)), names)
    ax.bar_label(bars, fmt=form, fontsize=8, color=INK, padding=3)


def _count_in_whole_numbers(ax: Axes) -> None:
    ticks = AutoLocator()
    ticks.set_params(integer=True)
    ax.xaxis.set_major_locator(ticks)


def _brief(name: str, most: int = MAX_CHARACTERS) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"

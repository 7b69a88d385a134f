"""The pictures of the benchmarks, drawn from their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from DurableText.program.wording import counted

RESULTS = Path(__file__).resolve().parent / "results"
SCALE_PICTURE = RESULTS.parents[1] / "docs" / "pictures" / "scale.png"
INK, PAPER = "#1d3557", "#fbfaf7"
COLOURS = {"local": "#2a9d8f", "kafka": "#457b9d", "pubsub": "#e9a23b", "bare": "#8d99ae"}
STEP_COLOURS = (
    "#a8dadc", "#e9a23b", "#d5d5d0", "#2a9d8f", "#f4d58d", "#e76f51",
    "#b5838d", "#84a98c", "#90be6d", "#6d9dc5", "#cdb4db", "#f28482", "#98c1d9", "#d9ae94",
)  # fmt: skip
# Microseconds below which a number has no room in its bar.
LEAST_LABELLED = 1.5
THOUSANDS = "{x:,.0f}"


def draw_all() -> list[Path]:
    """Draw what there are results for."""
    pictures = (
        ("pipeline", throughput),
        ("pipeline", latency),
        ("peers", peers),
        ("budget", budget),
        ("scale", scale),
    )
    return [
        draw(json.loads(file.read_text()))
        for name, draw in pictures
        if (file := RESULTS / f"{name}.json").exists()
    ]


def throughput(results: dict[str, Any]) -> Path:
    figure, axis = _axis("throughput, end to end and durable, against the bare model")
    names = list(results)
    for i, name in enumerate(names):
        bare, own = (results[name][key] for key in ("bare_images_per_second", "images_per_second"))
        axis.barh(i + 0.2, own, 0.36, color=COLOURS[name])
        axis.barh(i - 0.2, bare, 0.36, color=COLOURS["bare"])
        axis.text(own, i + 0.2, f" {own:,.0f}  (x {results[name]['ratio']:.2f})", va="center")
        axis.text(bare, i - 0.2, f" {bare:,.0f}  bare model", va="center", color="#555")
    axis.set_yticks(range(len(names)), names)
    axis.xaxis.set_major_formatter(THOUSANDS)
    axis.set_xlabel("images per second")
    axis.margins(x=0.25)
    return _save(figure, RESULTS / "throughput.png")


def latency(results: dict[str, Any]) -> Path:
    figure, axis = _axis("latency against load")
    for name, each in results.items():
        loads = each["latency_ms_under_load"].values()
        rates = [load["rate"] for load in loads]
        for percentile, style in (("p50", "-"), ("p99", "--")):
            values = [load[percentile] for load in loads]
            axis.plot(
                rates, values, style, color=COLOURS[name], marker="o", label=f"{name} {percentile}"
            )
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(THOUSANDS)
    axis.set_xlabel("images per second offered, at a fixed rate")
    axis.set_ylabel("ms from sending to durable")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _save(figure, RESULTS / "latency.png")


def peers(results: dict[str, Any]) -> Path:
    systems = list(results["measured"].items())
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 0.5 * len(systems) + 1.2), sharey=True, facecolor=PAPER
    )
    panels = (
        ("images per second", lambda each: {"": each["median"]["images_per_second"]}),
        ("ms for one at 20/s: p50, and p99", lambda each: each["latency_ms"]),
        ("lost and doubled by a kill -9, of 1,000", _share_by_kill),
    )
    for axis, (title, values_of) in zip(axes, panels, strict=True):
        _title(axis, title)
        for i, (name, each) in enumerate(systems):
            values = [v for key, v in values_of(each).items() if key != "max"]
            colour = COLOURS["kafka" if name == "ours" else "bare"]
            height = 0.7 / max(1, len(values))
            for j, value in enumerate(values):
                place = i + (j - (len(values) - 1) / 2) * height
                axis.barh(place, value, 0.9 * height, color=colour, alpha=0.6 if j else 1.0)
                axis.text(value, place, f" {value:,.0f}", va="center", color=INK, fontsize=9)
        axis.margins(x=0.2)
    axes[0].xaxis.set_major_formatter(THOUSANDS)
    axes[1].set_xscale("log")  # who stands still takes thousands of times as long
    axes[0].set_yticks(range(len(systems)), [each["title"] for _, each in systems])
    axes[0].invert_yaxis()
    return _save(figure, RESULTS / "peers.png")


def _share_by_kill(each: dict[str, Any]) -> dict[str, float]:
    kill = each["killed"]
    return {key: 1000 * kill[key] / kill["images"] for key in ("lost", "doubled")} if kill else {}


def budget(results: dict[str, Any]) -> Path:
    bars = [(broker, script) for broker, scripts in results.items() for script in scripts]
    figure, axis = _axis("where the time of one image goes", height=0.5 * len(bars) + 1)
    colours: dict[str, Any] = {}
    for i, (broker, script) in enumerate(bars):
        left = 0.0
        for step, cost in results[broker][script].items():
            label = None if step in colours else step
            colour = colours.setdefault(step, STEP_COLOURS[len(colours) % len(STEP_COLOURS)])
            axis.barh(i, cost, 0.7, left=left, color=colour, label=label)
            if cost >= LEAST_LABELLED:
                axis.text(left + cost / 2, i, f"{cost:.0f}", ha="center", va="center", fontsize=8)
            left += cost
        axis.text(left, i, f" {left:.0f}", va="center", color=INK)
    axis.set_yticks(range(len(bars)), [f"{script}, {broker}" for broker, script in bars])
    axis.invert_yaxis()
    axis.set_xlabel("microseconds of one core per image")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    return _save(figure, RESULTS / "budget.png")


def scale(results: dict[str, Any]) -> Path:
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), facecolor=PAPER)
    (left, right), (below_left, below_right) = axes
    answer = results["answer"]
    others = max(each.get("others_cores", 0.0) for each in results["measured"]["by_cluster"])
    _compared(left, results["comparison"], others)
    _by_cluster(right, results["measured"]["by_cluster"])
    worst = answer["simulated"]["worst_by_tenth_s"]
    below_left.plot([i / 10 for i in range(len(worst))], worst, color=COLOURS["kafka"])
    below_left.set_xlabel("seconds after the kill")
    below_left.set_ylabel("oldest of what is stored just then, s")
    _title(below_left, f"simulated: one of {answer['plant']['servers']} servers is killed")
    hidden = {"follower_share", "one_host_cores"}
    sums = {**answer["plant"], **answer["sums"]}
    lines = [f"{name:<33}{value:>11,.0f}" for name, value in sums.items() if name not in hidden]
    below_right.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=10, color=INK)
    below_right.set_axis_off()
    _title(below_right, f"for {answer['rate']:,.0f} images a second")
    figure.tight_layout(w_pad=3, h_pad=3)
    return _save(figure, SCALE_PICTURE)


def _compared(axis: Any, comparison: list[dict[str, Any]], others: float) -> None:
    most = max(1.0, *(1 + each["off"] for each in comparison))
    for i, each in enumerate(comparison):
        axis.barh(i - 0.2, 1.0, 0.36, color=COLOURS["bare"])
        axis.barh(i + 0.2, 1 + each["off"], 0.36, color=COLOURS["kafka"])
        axis.text(1.0, i - 0.2, f" {each['measured']:,.0f} measured", va="center", fontsize=8)
        text = f" {each['simulated']:,.0f} simulated"
        axis.text(min(1 + each["off"], 3.0), i + 0.2, text, va="center", fontsize=8)
    axis.set_yticks(range(len(comparison)), [each["what"] for each in comparison])
    axis.set_xticks([])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.4 * min(most, 3.0))
    busy = f" (others had {others:.1f} cores)" if others > 0.1 else ""
    _title(axis, f"one host: is the simulation right?{busy}")


def _by_cluster(axis: Any, clusters: list[dict[str, Any]]) -> None:
    """CPU an image of each part, on each cluster."""
    parts = list(clusters[0]["us"])
    for i, each in enumerate(clusters):
        left = 0.0
        for part, colour in zip(parts, STEP_COLOURS, strict=False):
            cost = each["us"][part]
            axis.barh(i, cost, 0.7, left=left, color=colour, label=None if i else part)
            if cost >= LEAST_LABELLED:
                axis.text(left + cost / 2, i, f"{cost:.0f}", ha="center", va="center", fontsize=8)
            left += cost
    names = [
        f"{counted(each['brokers'], 'broker')}, {counted(each['partitions'], 'partition')}"
        for each in clusters
    ]
    axis.set_yticks(range(len(clusters)), names)
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _title(axis, "measured: microseconds of one core per image")


def _title(axis: Any, title: str) -> None:
    axis.set_facecolor(PAPER)
    axis.set_title(title, loc="left", color=INK, fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)


def _axis(title: str, height: float = 3.8) -> tuple[Any, Any]:
    figure, axis = plt.subplots(figsize=(9, height), facecolor=PAPER)
    axis.set_facecolor(PAPER)
    axis.set_title(title, loc="left", color=INK, fontsize=13)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110, facecolor=PAPER, bbox_inches="tight")
    plt.close(figure)
    return path


if __name__ == "__main__":
    draw_all()

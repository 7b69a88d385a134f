"""The pictures of the benchmarks, drawn from their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).resolve().parent / "results"
INK, PAPER = "#1d3557", "#fbfaf7"
COLOURS = {"local": "#2a9d8f", "kafka": "#457b9d", "pubsub": "#e9a23b", "bare": "#8d99ae"}
SCRIPT_COLOURS = ("#a8dadc", "#d62839", "#e9a23b", "#2a9d8f")


def draw_all() -> list[Path]:
    """Draw what there are results for."""
    file = RESULTS / "pipeline.json"
    if not file.exists():
        return []
    results: dict[str, Any] = json.loads(file.read_text())
    return [throughput(results), latency(results), budget(results)]


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
    axis.set_xlabel("images per second")
    axis.margins(x=0.25)
    return _save(figure, "throughput.png")


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
    axis.set_xlabel("images per second offered, at a fixed rate")
    axis.set_ylabel("ms from intended sending to durable in the DB")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _save(figure, "latency.png")


def budget(results: dict[str, Any]) -> Path:
    figure, axis = _axis("where one image's time goes: CPU of each script")
    for i, each in enumerate(results.values()):
        left = 0.0
        for (script, cost), colour in zip(
            each["cpu_us_per_image"].items(), SCRIPT_COLOURS, strict=True
        ):
            axis.barh(i, cost, 0.5, left=left, color=colour, label=script if i == 0 else None)
            axis.text(left + cost / 2, i, f"{cost:.0f}", ha="center", va="center", fontsize=9)
            left += cost
    axis.set_yticks(range(len(results)), list(results))
    axis.set_xlabel("microseconds of one core per image")
    axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return _save(figure, "budget.png")


def _axis(title: str) -> tuple[Any, Any]:
    figure, axis = plt.subplots(figsize=(9, 3.8), facecolor=PAPER)
    axis.set_facecolor(PAPER)
    axis.set_title(title, loc="left", color=INK, fontsize=13)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _save(figure: Any, name: str) -> Path:
    path = RESULTS / name
    figure.savefig(path, dpi=110, facecolor=PAPER, bbox_inches="tight")
    plt.close(figure)
    return path


if __name__ == "__main__":
    draw_all()

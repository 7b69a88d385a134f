"""How the watch looks in a terminal, wide or narrow, and as one line without a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from DurableText.program.wording import brief, duration_in_words, in_lines, printable, rate_in_words
from Pipeline.observability.overview import latency_of
from Pipeline.observability.stages import Stage

# Below this there is room for the essential only.
NARROW_COLUMNS = 100
# Fewer points are no curve.
SHORTEST_CURVE = 5
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*#@"
GOOD, BAD, FAULT, QUIET, INK = "green", "bold red", "yellow", "dim", "bold"

SHORT = {
    "app_1": "app_1",
    "model_server_sub": "sub",
    "model_server_pub": "pub",
    "app_2": "app_2",
}


def view(
    stages: Sequence[Stage],
    problems: Sequence[str],
    rates: Sequence[float],
    results: Sequence[dict[str, Any]],
    *,
    columns: int,
    plain: bool = False,
) -> RenderableType:
    """Draw everything.

    Args:
        stages: in the order of the pipeline.
        problems: what a person should look at.
        rates: results stored a second, oldest first.
        results: the last rows of the DB, newest first.
        columns: the width of the terminal.
        plain: the terminal knows ASCII only.
    """
    narrow = columns < NARROW_COLUMNS
    # The verdict first: what does not fit into a low terminal is cut off at its foot.
    parts: list[RenderableType] = [
        _verdict(problems),
        _narrow_rows(stages) if narrow else _wide_table(stages, plain),
    ]
    if len(rates) >= SHORTEST_CURVE:
        parts.append(_curve(rates, columns, plain))
    if results:
        parts.append(_results(results, narrow))
    return Group(*parts)


def line(stages: Sequence[Stage], problems: Sequence[str], now: datetime) -> str:
    """Say the same in one line, for a log."""
    parts = [
        f"{SHORT.get(stage.script, stage.target)} {rate_in_words(stage.rate)}"
        + (f" (waiting {stage.waiting:,})" if stage.waiting else "")
        for stage in stages
        if stage.script != "?"
    ]
    verdict = "; ".join(problems) or "all is well"
    return printable(f"{now:%H:%M:%S%z}  {'  '.join(parts) or 'nobody answers'}  {verdict}")


def _wide_table(stages: Sequence[Stage], plain: bool) -> Table:
    table = Table(box=box.ASCII if plain else box.ROUNDED, expand=True, header_style=INK)
    table.add_column("stage", no_wrap=True)
    table.add_column("state", ratio=1, overflow="fold")
    for title in ("rate", "done", "waiting", "batch", "p50", "p99"):
        table.add_column(title, justify="right", no_wrap=True)
    for stage in stages:
        table.add_row(
            _name(stage),
            _state(stage),
            rate_in_words(stage.rate),
            f"{stage.total:,}",
            _waiting(stage),
            "" if stage.batch is None else f"{stage.batch:,.0f}",
            _duration(stage.p50),
            _duration(stage.p99),
        )
    return table


def _narrow_rows(stages: Sequence[Stage]) -> RenderableType:
    """Two lines a stage: the numbers, and below them the state, folded where it is long."""
    lines: list[RenderableType] = []
    for stage in stages:
        numbers = [rate_in_words(stage.rate), f"{_waiting(stage)} waiting", _duration(stage.p99)]
        known = (stage.script != "?", stage.waiting is not None, stage.p99 is not None)
        shown = [text for text, is_known in zip(numbers, known, strict=True) if is_known]
        lines.append(Text.assemble(_name(stage, short=True), *(f"  {each}" for each in shown)))
        lines.append(Padding(_state(stage), (0, 0, 0, 2)))
    return Group(*lines)


def _name(stage: Stage, *, short: bool = False) -> Text:
    if stage.script == "?":
        return Text(stage.target, QUIET if _may_be_away(stage) else BAD)
    name = SHORT.get(stage.script, stage.script) if short else stage.script
    return Text.assemble(brief(name), (f" :{stage.target.rsplit(':', 1)[-1]}", QUIET))


def _state(stage: Stage) -> Text:
    if not stage.ready:
        return Text(brief(stage.state), QUIET if _may_be_away(stage) else BAD)
    text = Text("ready", GOOD)
    if stage.model:
        text.append(f"  {brief(stage.model)}", QUIET)
    elif stage.broker:
        text.append(f"  on {brief(stage.broker)}", QUIET)
    for reason in stage.waits_for:
        text.append(f"  waits for {brief(reason)}", FAULT)
    for fault, number in stage.faults.items():
        text.append(f"  {number:,} {fault}", FAULT)
    return text


def _may_be_away(stage: Stage) -> bool:
    return stage.standby or stage.script == "app_1" or (stage.script == "?" and not stage.named)


def _waiting(stage: Stage) -> str:
    if stage.waiting is None:
        return ""
    age = f" {_duration(stage.waiting_seconds)}" if stage.waiting and stage.waiting_seconds else ""
    return f"{stage.waiting:,}{age}"


def _curve(rates: Sequence[float], columns: int, plain: bool) -> Text:
    bars = PLAIN_BARS if plain else BARS
    shown = rates[-max(1, columns - 24) :]
    top = max(*shown, 1.0)
    curve = "".join(bars[round(rate / top * (len(bars) - 1))] for rate in shown)
    return Text.assemble(("stored ", INK), (curve, "cyan"), f" {rate_in_words(shown[-1])}")


def _results(results: Sequence[dict[str, Any]], narrow: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style=INK, title_justify="left")
    table.add_column("last results", no_wrap=True, max_width=16 if narrow else 32)
    table.add_column("label", no_wrap=True, max_width=12)
    table.add_column("", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("latency", justify="right", no_wrap=True)
        table.add_column("model", no_wrap=True, style=QUIET)
    for row in results:
        label, expected = str(row.get("label")), row.get("expected_label")
        wrong = expected is not None and expected != label
        confidence = row.get("confidence")
        shown = f"{label} for {expected}" if wrong else label
        cells: list[str | Text] = [
            _foreign(row.get("source") or row.get("id")),
            _foreign(shown, BAD if wrong else GOOD),
            f"{confidence:.1%}" if isinstance(confidence, (int, float)) else "",
        ]
        if not narrow:
            cells += [_duration(latency_of(row)), _foreign(row.get("model", ""))]
        table.add_row(*cells)
    return table


def _foreign(value: object, style: str = "") -> Text:
    """Show what another program wrote: no escape sequence of it counts, nor markup of rich."""
    return Text(brief(str(value)), style)


def _verdict(problems: Sequence[str]) -> Text:
    if not problems:
        return Text("all is well", GOOD)
    return Text(in_lines(*problems), BAD)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration_in_words(seconds)

"""What the metrics of a running pipeline say about its four stages."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from Pipeline.observability import metric_table as table
from Pipeline.observability.scraping import Sample, scrape

# Rates and latencies are those of the last seconds.
WINDOW_SECONDS = 10.0
# A fault stands among the problems for so long; afterwards it is only counted.
FAULT_SECONDS = 300.0
# Messages that wait for so long while nobody does anything stand still, whatever the cause.
STALL_SECONDS = 30.0

# In the order of the pipeline: each script and the counter of what it has done.
DONE = {script: counters["done"].name for script, counters in table.COUNTERS.items()}
# Where the scripts are by habit: their `--metrics-port`.
USUAL_PORTS = {script: 9101 + i for i, script in enumerate(DONE)}
FAULTS = {
    "dead-lettered": table.COUNTERS["app_2"]["dead_lettered"].name,
    "not published": table.COUNTERS["app_1"]["failed"].name,
    "conflicts": table.COUNTERS["app_2"]["conflicts"].name,
    "late acks": table.LATE_ACKS.name,
    "reloads refused": f'{table.RELOADS.name}{{outcome="refused"}}',
    "errors logged": f'{table.LOG_LINES.name}{{level="error"}}',
}

Values = Mapping[str, float]
Buckets = Mapping[float, float]


@dataclass(frozen=True)
class Stage:
    """One script as it is now.

    Attributes:
        target: where it was asked.
        script: its name; "?" if it never answered.
        state: `ready`, or why it is not.
        ready: whether it is.
        total: messages done since its start.
        rate: messages a second.
        waiting: messages or records before it; None where nobody can tell.
        waiting_seconds: age of the oldest of them, where it is known.
        p50: seconds: of the model for one batch, or end to end; None without any in the window.
        p99: the same.
        batch: mean size of a batch.
        faults: what went wrong since its start, by name, without zeros.
        recent_faults: what of it came in the last minutes of the watch; all, at the first look.
        model: version of the model, of the model server.
        standby: whether another process does its work, and it waits for that one's end.
        named: whether the user named the target: then something has to be there.
        waits_for: reasons for which it waits right now.
        stalled_seconds: for how long messages have waited while it did nothing; None where nobody
            can tell.
    """

    target: str
    script: str = "?"
    state: str = "away"
    ready: bool = False
    broker: str | None = None
    total: int = 0
    rate: float = 0.0
    waiting: int | None = None
    waiting_seconds: float | None = None
    p50: float | None = None
    p99: float | None = None
    batch: float | None = None
    faults: dict[str, int] = field(default_factory=dict)
    recent_faults: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    standby: bool = False
    named: bool = False
    waits_for: tuple[str, ...] = ()
    stalled_seconds: float | None = None


class Target:
    """One script that is watched."""

    def __init__(self, address: str, *, named: bool = False) -> None:
        self.address = address
        self._named = named
        self._samples: deque[Sample] = deque()
        self._script = "?"

    def look(self) -> Stage:
        """Scrape, and tell how the stage stands."""
        sample = scrape(self.address)
        if sample.error is not None:
            self._samples.clear()
            return Stage(self.address, self._script, sample.error, named=self._named)
        self._remember(sample)
        self._script = sample.infos.get(table.SCRIPT_INFO.name, {}).get("script", "?")
        start = sample.at - WINDOW_SECONDS
        first = next(each for each in self._samples if each.at >= start)
        return self._stage(first, sample)

    def _remember(self, sample: Sample) -> None:
        done = DONE.get(self._script, "")
        if self._samples and sample.values.get(done, 0) < self._samples[-1].values.get(done, 0):
            self._samples.clear()  # it was started again: its counters begin anew
        self._samples.append(sample)
        while sample.at - self._samples[0].at > FAULT_SECONDS:
            self._samples.popleft()

    def _stage(self, first: Sample, last: Sample) -> Stage:
        done = DONE.get(self._script, "")
        values = last.values
        seconds = last.at - first.at
        waiting = table.QUEUE_DEPTH if self._script == "model_server_pub" else table.BACKLOG
        times = table.LATENCY if self._script == "app_2" else table.INFERENCE
        buckets = _difference(
            first.histograms.get(times.name, {}), last.histograms.get(times.name, {})
        )
        sizes = f"{table.BATCH.name}_count", f"{table.BATCH.name}_sum"
        batches, messages = (values.get(name, 0) - first.values.get(name, 0) for name in sizes)
        depth = values.get(waiting.name)
        return Stage(
            self.address,
            self._script,
            last.why_not_ready or "ready",
            last.why_not_ready is None,
            last.infos.get(table.SCRIPT_INFO.name, {}).get("broker"),
            total=int(values.get(done, 0)),
            rate=(values.get(done, 0) - first.values.get(done, 0)) / seconds if seconds else 0.0,
            waiting=None if depth is None else int(depth),
            waiting_seconds=values.get(table.QUEUE_AGE.name)
            if waiting is table.QUEUE_DEPTH
            else None,
            p50=quantile(0.5, buckets),
            p99=quantile(0.99, buckets),
            batch=messages / batches if batches > 0 else None,
            faults=_faults(values, {}),
            recent_faults=_faults(
                values, self._samples[0].values if len(self._samples) > 2 else {}
            ),
            model=last.infos.get(table.MODEL_INFO.name, {}).get("version"),
            standby=values.get(table.STANDBY.name) == 1,
            named=self._named,
            waits_for=_reasons(values),
            stalled_seconds=values.get(table.STALLED.name),
        )


class WatchedPipeline:
    """All scripts that are watched."""

    def __init__(self, addresses: Sequence[str], *, named: bool = False) -> None:
        """Watch these.

        Args:
            addresses: HOST:PORT of each.
            named: whether the user named them; those that are only tried may be away.
        """
        self._targets = [Target(address, named=named) for address in addresses]

    def look(self) -> list[Stage]:
        """Scrape all at once; the stages in the order of the pipeline."""
        with ThreadPoolExecutor(len(self._targets)) as pool:
            stages = list(pool.map(Target.look, self._targets))
        order = {script: i for i, script in enumerate(DONE)}
        return sorted(stages, key=lambda stage: order.get(stage.script, len(order)))


def problems(stages: Sequence[Stage]) -> list[str]:
    """Say what a person should look at.

    `app_1` may be away: it ends when all is published; but it may wait as the others do. A standby
    is well while another instance of its script is at work.
    """
    present = {stage.script for stage in stages}
    at_work = {stage.script for stage in stages if stage.ready}
    found = [
        f"{script} is not seen anywhere: start it with --metrics-port {USUAL_PORTS[script]}"
        for script in DONE
        if script not in present and script != "app_1"
    ]
    for stage in stages:
        if stage.script == "?" and stage.named:
            found.append(f"{stage.target}: {stage.state}")  # it never said what it is
        elif stage.standby and stage.script in at_work:
            pass
        elif not stage.ready and (stage.script not in ("?", "app_1") or stage.waits_for):
            found.append(f"{stage.script} ({stage.target}): {stage.state}")
        for text, number in stage.recent_faults.items():
            found.append(f"{stage.script} ({stage.target}): {number:,} {text}")
    return found + _stand_stills(stages)


def _stand_stills(stages: Sequence[Stage]) -> list[str]:
    """Say which scripts do nothing though messages wait: instances that share the work are one."""
    found = []
    for script in DONE:
        stalled = [
            (stage.stalled_seconds, stage.waiting)
            for stage in stages
            if stage.script == script and stage.stalled_seconds is not None
        ]
        seconds, waiting = min(stalled, default=(0.0, 0))
        if seconds >= STALL_SECONDS:
            found.append(
                f"{script}: {waiting or 0:,} wait, and nothing was done for {seconds:.0f} s"
            )
    return found


def quantile(q: float, buckets: Buckets) -> float | None:
    """Estimate a quantile from cumulative counts by upper bound, as PromQL does.

    Returns:
        None without observations. Beyond the last finite bound, that bound.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank and bound != float("inf"):
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        if bound != float("inf"):
            lower, below = bound, buckets[bound]
    return lower


def _difference(first: Buckets, last: Buckets) -> Buckets:
    """Return what came in between two scrapes; all of it if there was only one."""
    if first is last:
        return last
    return {bound: count - first.get(bound, 0.0) for bound, count in last.items()}


def _reasons(values: Values) -> tuple[str, ...]:
    before, after = f'{table.WAITING.name}{{reason="', '"}'
    return tuple(
        name.removeprefix(before).removesuffix(after)
        for name, value in values.items()
        if name.startswith(before) and value
    )


def _faults(now: Values, before: Values) -> dict[str, int]:
    rises = {text: int(now.get(name, 0) - before.get(name, 0)) for text, name in FAULTS.items()}
    return {text: rise for text, rise in rises.items() if rise > 0}


def pairwise_rates(totals: Sequence[tuple[float, int]]) -> list[float]:
    """Turn (time, total) into rates, for a curve."""
    return [
        max(0.0, (b - a) / (t1 - t0)) if t1 > t0 else 0.0
        for (t0, a), (t1, b) in itertools.pairwise(totals)
    ]

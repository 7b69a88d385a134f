"""The metrics of a running script, as Prometheus reads them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from DurableText.installation import __version__
from DurableText.moments import age_of
from Pipeline.observability import metric_table as table
from Pipeline.observability.metrics import Metrics, ModelSource, Sources
from Pipeline.observability.metrics_server import MetricsServer
from Pipeline.observability.prediction_mix import PredictionMix
from Pipeline.observability.probe import GaugeProbe
from Pipeline.observability.waiting import NOT_ASSIGNED, Reason, Waiting
from Pipeline.stop import Stop
from Pipeline.tally import Tally


class LiveMetrics(Metrics, Collector):
    """Serves the metrics of one script, from its start to its end."""

    def __init__(self, script: str, address: tuple[str, int], stop: Stop, waiting: Waiting) -> None:
        """Serve at once: before the script is at work it is alive, but not ready.

        Args:
            script: its name, as in `metric_table.COUNTERS`.
            address: host and port to serve on; in use, it is tried again until it is free.
            stop: tells when the script drains.
            waiting: tells what it waits for.
        """
        self._script = script
        self._stop = stop
        self._waiting = waiting
        self._work: _AtWork | None = None
        self._standing_by = False
        self._batches = Histogram(table.BATCH)
        self._inferences = Histogram(table.INFERENCE)
        self._latencies = Histogram(table.LATENCY)
        self._predictions = PredictionMix()
        self._log_lines = _LogCount()
        logging.getLogger().addHandler(self._log_lines)
        registry = CollectorRegistry()
        registry.register(self)
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        self._server = MetricsServer(address, registry, self.why_not_ready)

    @contextlib.contextmanager
    def follow(self, sources: Sources, tally: Tally) -> Iterator[None]:
        """See `Metrics.follow`. What takes time is asked for by a thread of its own."""
        probe = GaugeProbe(sources, tally)
        self._work = _AtWork(sources, tally, probe)
        try:
            yield
        finally:
            probe.close()

    def batch(self, size: int) -> None:
        """Count a batch."""
        self._batches.observe((size,))

    def inference(self, seconds: float) -> None:
        """Count one run of the model."""
        self._inferences.observe((seconds,))

    def predicted(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count what the models say."""
        self._predictions.add(records)

    def stored(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Count latencies. A clock that jumped makes none below zero."""
        now = time.time()
        ages = (age_of(each.get("published_at"), now) for each in results)
        self._latencies.observe([age for age in ages if age is not None])

    def standing_by(self, yes: bool) -> None:
        """Say whether another process does the work."""
        self._standing_by = yes

    def why_not_ready(self) -> str | None:
        """Tell why the script is not ready; None if it is."""
        work = self._work
        if self._stop.requested:
            return "draining"
        if self._standing_by:
            return "standing by"
        stuck = self._waiting.stuck()
        if stuck is not None:
            return stuck
        if work is None:
            return "starting"
        subscription = work.sources.subscription
        if subscription is not None and not subscription.ready:
            return NOT_ASSIGNED
        return work.probe.why_not_ready()

    def close(self) -> None:
        """Free the port."""
        self._server.close()
        logging.getLogger().removeHandler(self._log_lines)

    def collect(self) -> Iterator[Family]:
        """Yield all metrics as they are now."""
        yield _gauge(table.READY, 0 if self.why_not_ready() else 1)
        if self._script in table.STANDBY_SCRIPTS:
            yield _gauge(table.STANDBY, 1 if self._standing_by else 0)
        yield from self._log_lines.families()
        yield _gauges(table.WAITING, "reason", self._waits())
        about = {"script": self._script, "version": __version__}
        work = self._work
        if work is None:
            yield _info(table.SCRIPT_INFO, about)
            return
        sources = work.sources
        yield _info(table.SCRIPT_INFO, {**about, "broker": sources.broker.name})
        for field, metric in table.COUNTERS[self._script].items():
            yield _counter(metric, getattr(work.tally, field))
        yield self._batches.family()
        if sources.subscription is not None:
            yield _counter(table.RECEIVED, self._batches.sum)
            yield _counter(table.LATE_ACKS, sources.subscription.late_acks)
        if sources.models is not None:
            yield from self._families_of_models(sources.models)
        if sources.shadow is not None:
            yield _counters(table.SHADOW, "outcome", sources.shadow.images)
        if self._script == "app_2":
            yield self._latencies.family()
        for metric, value in work.probe.values().items():
            yield _gauge(metric, value)
        for topic, letters in work.probe.letters().items():
            yield _gauges(table.DEAD_LETTERS, "topic", {topic: letters})

    def _waits(self) -> dict[str, int]:
        """Tell what is waited for; the broker also where nothing is to be sent, and nobody does."""
        waits = {reason.value: int(yes) for reason, yes in self._waiting.reasons().items()}
        if self._work is not None:
            is_away = self._work.probe.broker_trouble() is not None
            waits[Reason.BROKER] = max(waits.get(Reason.BROKER, 0), int(is_away))
        return waits

    def _families_of_models(self, models: ModelSource) -> Iterator[Family]:
        yield self._inferences.family()
        yield _info(table.MODEL_INFO, {"version": models.version})
        yield from self._predictions.families()
        yield _counters(table.RELOADS, "outcome", models.reloads)


@dataclass(frozen=True)
class _AtWork:
    """What a script at work has."""

    sources: Sources
    tally: Tally
    probe: GaugeProbe


class Histogram:
    """A histogram that takes many values at once: one lock a batch, not one a value."""

    def __init__(self, metric: table.Metric) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._counts = [0] * (len(metric.buckets) + 1)
        self.sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Add values."""
        buckets = self._metric.buckets
        with self._lock:
            for value in values:
                self._counts[bisect_left(buckets, value)] += 1
                self.sum += value

    def family(self) -> HistogramMetricFamily:
        """Make what Prometheus reads: the counts are cumulative."""
        with self._lock:
            counts, total = list(self._counts), self.sum
        bounds = [*map(str, self._metric.buckets), "+Inf"]
        cumulative = [sum(counts[: i + 1]) for i in range(len(counts))]
        buckets = list(zip(bounds, cumulative, strict=True))
        family = HistogramMetricFamily(self._metric.name, self._metric.help)
        family.add_metric([], buckets=buckets, sum_value=total)
        return family


class _LogCount(logging.Handler):
    """Counts what was logged that a person should look at."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._counts = {"warning": 0, "error": 0}

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self._counts["error" if record.levelno >= logging.ERROR else "warning"] += 1

    def families(self) -> Iterator[Family]:
        """Yield the counts."""
        yield _counters(table.LOG_LINES, "level", self._counts)


def _counter(metric: table.Metric, value: float) -> Family:
    return CounterMetricFamily(metric.name, metric.help, value=value)


def _counters(metric: table.Metric, label: str, values: Mapping[str, int]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=[label])
    for name, value in dict(values).items():
        family.add_metric([name], value)
    return family


def _gauge(metric: table.Metric, value: float) -> Family:
    return GaugeMetricFamily(metric.name, metric.help, value=value)


def _gauges(metric: table.Metric, label: str, values: Mapping[str, int]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=[label])
    for name, value in values.items():
        family.add_metric([name], value)
    return family


def _info(metric: table.Metric, labels: dict[str, str]) -> Family:
    return InfoMetricFamily(metric.name, metric.help, value=labels)

"""What a person wants to know of a DB: how many, which labels, how right, how fast.

The rows are read once. Memory does not grow with them: latencies go into buckets that are 1 % wide,
so a percentile is right to half a per cent; the time line doubles the width of its bins when it has
too many; names beyond a limit are counted together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from DurableText.moments import seconds_of

BUCKET_GROWTH = 1.01
SMALLEST_LATENCY_SECONDS = 1e-4
# Labels, pairs and models told apart; what comes beyond is counted as `OTHER`.
MAX_NAMES = 1000

# What of a name is beyond this is left out: some are whole texts.
MAX_NAME_CHARACTERS = 200

OTHER = "(other)"

# Unsure results that are listed: enough to look at.
MAX_UNSURE = 20

# Bins of the time line; a second wide at first.
MAX_BINS = 2048


@dataclass(frozen=True)
class Summary:
    """What is in a DB.

    Attributes:
        rows: stored results.
        corrupt: lines that are none.
        labels: results per label, most frequent first.
        known: results whose `expected_label` is known.
        correct: those of them with the right label.
        right: how many of those there are per label.
        confusions: (expected, given, how often), most frequent first.
        models: results per model.
        unsure: results that are marked as unsure.
        unsure_first: the first of them: id, label and confidence.
        latency_p50: seconds from `published_at` to `stored_at`, half of the results were faster;
            None without any.
        latency_p95: the same for 95 of 100.
        latency_p99: the same for 99 of 100.
        latency_max: the slowest.
        first_stored_at: time of the first insert; None without any.
        last_stored_at: time of the last insert.
        throughput: results per second between the two; None if all came in one insert.
        latencies: (seconds, results) per bucket, ascending.
        time_line: (seconds since the first insert, results per second) per bin.
    """

    rows: int = 0
    corrupt: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    known: int = 0
    correct: int = 0
    right: dict[str, int] = field(default_factory=dict)
    confusions: list[tuple[str, str, int]] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)
    unsure: int = 0
    unsure_first: list[tuple[str, str, float | None]] = field(default_factory=list)
    latency_p50: float | None = None
    latency_p95: float | None = None
    latency_p99: float | None = None
    latency_max: float | None = None
    first_stored_at: datetime | None = None
    last_stored_at: datetime | None = None
    throughput: float | None = None
    latencies: list[tuple[float, int]] = field(default_factory=list, repr=False)
    time_line: list[tuple[float, float]] = field(default_factory=list, repr=False)

    @property
    def accuracy(self) -> float | None:
        """Share of right labels where the right one is known; None if it nowhere is."""
        return self.correct / self.known if self.known else None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-able values, without the series for the plot."""
        first, last = self.first_stored_at, self.last_stored_at
        return {
            "rows": self.rows,
            "corrupt_lines": self.corrupt,
            "labels": self.labels,
            "accuracy": self.accuracy,
            "expected_known": self.known,
            "correct": self.correct,
            "correct_by_label": self.right,
            "confusions": [
                {"expected": expected, "label": label, "count": count}
                for expected, label, count in self.confusions
            ],
            "latency_seconds": {
                "p50": self.latency_p50,
                "p95": self.latency_p95,
                "p99": self.latency_p99,
                "max": self.latency_max,
            },
            "first_stored_at": first.isoformat() if first else None,
            "last_stored_at": last.isoformat() if last else None,
            "throughput_per_second": self.throughput,
            "models": self.models,
            "unsure": self.unsure,
            "unsure_first": [
                {"id": each, "label": label, "confidence": confidence}
                for each, label, confidence in self.unsure_first
            ],
        }


class _Latencies:
    """A histogram with buckets of constant relative width."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.highest: float | None = None

    def add(self, seconds: float) -> None:
        seconds = max(seconds, SMALLEST_LATENCY_SECONDS)  # clocks of two machines may disagree
        self.counts[
            math.floor(math.log(seconds / SMALLEST_LATENCY_SECONDS) / math.log(BUCKET_GROWTH))
        ] += 1
        if self.highest is None or seconds > self.highest:
            self.highest = seconds

    def series(self) -> list[tuple[float, int]]:
        return [(_middle(bucket), count) for bucket, count in sorted(self.counts.items())]

    def percentile(self, share: float) -> float | None:
        highest = self.highest
        if highest is None:
            return None
        left = math.ceil(share * sum(self.counts.values()))
        for seconds, count in self.series():
            left -= count
            if left <= 0:
                return min(seconds, highest)
        return highest


def _middle(bucket: int) -> float:
    return SMALLEST_LATENCY_SECONDS * math.exp((bucket + 0.5) * math.log(BUCKET_GROWTH))


class _TimeLine:
    """Events per bin of time, from the first to the last; bins widen so that they are not many."""

    def __init__(self) -> None:
        self.start: float | None = None
        self.width = 1.0
        self.bins: Counter[int] = Counter()
        self.first = self.last = 0

    def add(self, second: float) -> None:
        if self.start is None:
            self.start = second
        number = math.floor((second - self.start) / self.width)
        self.bins[number] += 1
        self.first, self.last = min(self.first, number), max(self.last, number)
        while self.last - self.first >= MAX_BINS:  # the empty ones between them are drawn as well
            merged: Counter[int] = Counter()
            for number, count in self.bins.items():
                merged[number // 2] += count
            self.bins, self.width = merged, self.width * 2
            self.first, self.last = self.first // 2, self.last // 2

    def series(self) -> list[tuple[float, float]]:
        if not self.bins:
            return []
        return [
            (number * self.width, self.bins[number] / self.width)
            for number in range(self.first, self.last + 1)
        ]


class RowTally:
    """Counts rows into a `Summary`."""

    def __init__(self) -> None:
        self.rows = self.corrupt = self.known = self.correct = 0
        self.labels: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.unsure = 0
        self.unsure_first: list[tuple[str, str, float | None]] = []
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.latencies = _Latencies()
        self.time_line = _TimeLine()
        self.first: float | None = None
        self.last: float | None = None
        self._stored_text: object = None
        self._stored: float | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        label = _name(row.get("label"))
        _count(self.labels, _short(label))
        _count(self.models, _short(_name(row.get("model"))))
        if row.get("unsure") is True:
            self._add_unsure(row, label)
        if "expected_label" in row:
            expected = _name(row["expected_label"])
            self.known += 1
            if expected == label:
                self.correct += 1
                _count(self.right, _short(label))
            else:
                _count(self.pairs, (_short(expected), _short(label)), (OTHER, OTHER))
        self._add_times(row)

    def _add_unsure(self, row: Mapping[str, Any], label: str) -> None:
        self.unsure += 1
        if len(self.unsure_first) < MAX_UNSURE:
            confidence = row.get("confidence")
            known = confidence if isinstance(confidence, (int, float)) else None
            self.unsure_first.append((str(row.get("id")), _short(label), known))

    def _add_times(self, row: Mapping[str, Any]) -> None:
        if row.get("stored_at") != self._stored_text:  # the same for all of one insert
            self._stored_text = row.get("stored_at")
            self._stored = seconds_of(self._stored_text)
        stored = self._stored
        if stored is None:
            return
        self.first = stored if self.first is None else min(self.first, stored)
        self.last = stored if self.last is None else max(self.last, stored)
        self.time_line.add(stored)
        published = seconds_of(row.get("published_at"))
        if published is not None:
            self.latencies.add(stored - published)

    def finish(self) -> Summary:
        """Return what was counted."""
        span = (self.last or 0.0) - (self.first or 0.0)
        return Summary(
            rows=self.rows,
            corrupt=self.corrupt,
            labels=dict(self.labels.most_common()),
            known=self.known,
            correct=self.correct,
            right=dict(self.right.most_common()),
            confusions=[(e, g, n) for (e, g), n in self.pairs.most_common()],
            unsure=self.unsure,
            unsure_first=list(self.unsure_first),
            models=dict(self.models.most_common()),
            latency_p50=self.latencies.percentile(0.50),
            latency_p95=self.latencies.percentile(0.95),
            latency_p99=self.latencies.percentile(0.99),
            latency_max=self.latencies.highest,
            first_stored_at=_moment(self.first),
            last_stored_at=_moment(self.last),
            throughput=self.rows / span if span > 0 else None,
            latencies=self.latencies.series(),
            time_line=self.time_line.series(),
        )


def _name(value: object) -> str:
    return value if isinstance(value, str) else "(none)" if value is None else str(value)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARACTERS else f"{name[:MAX_NAME_CHARACTERS]}…"


def _count(counter: Counter[Any], name: object, other: object = OTHER) -> None:
    counter[name if name in counter or len(counter) < MAX_NAMES else other] += 1


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

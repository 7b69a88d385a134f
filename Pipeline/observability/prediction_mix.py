"""What the models say: how often which label, and how sure they are.

A mix that changes, or a confidence that falls, is the first sign that the images have become other
ones than the model was trained on.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric as Family

from Pipeline.observability import metric_table as table

# A series each, for ever. What comes later is counted together, as OTHER: ImageNet has 1,000.
MAX_LABELS = 1_000
OTHER = "other labels"
# Of which the last are told: a server may be given a model a day, for months.
MAX_MODELS = 8


@dataclass
class _Said:
    """What one model has said."""

    labels: Counter[str] = field(default_factory=Counter)
    confident: int = 0
    confidence: float = 0.0


class PredictionMix:
    """Counts predictions by model and label. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: OrderedDict[str, _Said] = OrderedDict()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count records; label and confidence may be missing."""
        with self._lock:
            for record in records:
                said = self._of(str(record.get("model", "")))
                label = record.get("label")
                if label is not None:
                    known = label in said.labels or len(said.labels) < MAX_LABELS
                    said.labels[label if known else OTHER] += 1
                confidence = record.get("confidence")
                if isinstance(confidence, float):
                    said.confident += 1
                    said.confidence += confidence

    def families(self) -> Iterator[Family]:
        """Yield what Prometheus reads."""
        counts = CounterMetricFamily(
            table.PREDICTIONS.name, table.PREDICTIONS.help, labels=["model", "label"]
        )
        confidence = SummaryMetricFamily(
            table.CONFIDENCE.name, table.CONFIDENCE.help, labels=["model"]
        )
        with self._lock:
            for model, said in self._said.items():
                for label, number in said.labels.items():
                    counts.add_metric([model, label], number)
                confidence.add_metric([model], said.confident, said.confidence)
        yield counts
        yield confidence

    def _of(self, model: str) -> _Said:
        said = self._said.get(model)
        if said is None:
            said = self._said[model] = _Said()
            if len(self._said) > MAX_MODELS:
                self._said.popitem(last=False)
        return said

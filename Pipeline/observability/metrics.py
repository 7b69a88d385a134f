"""What a script tells of itself on `--metrics-port`: the seam between the scripts and Prometheus.

Counters are read when somebody scrapes; only the histograms are fed, once a batch. Without a port
the scripts hold a `Metrics` that does nothing, and nothing of Prometheus is imported.
"""

# ruff: noqa: ARG002 - the class that does nothing ignores what it is given
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from DurableText.program.closing import ClosedAtExit

if TYPE_CHECKING:
    from MessageBroker import BrokerInterface, Subscription
    from Pipeline.tally import Tally


class ModelSource(Protocol):
    """Whoever knows which model answers: see `Pipeline.serving.live_model`."""

    @property
    def reloads(self) -> Mapping[str, int]:
        """Checkpoints looked at, by outcome."""

    @property
    def version(self) -> str:
        """The version of the model that answers."""


class ShadowSource(Protocol):
    """The model that answers nobody: see `Pipeline.serving.shadow`."""

    @property
    def images(self) -> Mapping[str, int]:
        """What became of the images, by outcome."""


@dataclass(frozen=True)
class Sources:
    """Where a script at work takes the numbers from that it tells.

    Attributes:
        broker: asked whether it answers, and for the backlog.
        subscription: what the script consumes.
        queue: the queue's path or URL.
        db: the DB's path or URL.
        models: which model answers.
        shadow: the model that answers nobody.
    """

    broker: BrokerInterface
    subscription: Subscription | None = None
    queue: str | Path | None = None
    db: str | Path | None = None
    models: ModelSource | None = None
    shadow: ShadowSource | None = None


class Metrics(ClosedAtExit):
    """Metrics that nobody wants: every method does nothing. `LiveMetrics` does something."""

    @contextlib.contextmanager
    def follow(self, sources: Sources, tally: Tally) -> Iterator[None]:
        """Say that the script is at work, and where its numbers are, until the context is left.

        Args:
            sources: what is asked while the script works.
            tally: what the script counts; `metric_table.COUNTERS` names the fields.
        """
        yield

    def batch(self, size: int) -> None:
        """Count a batch of `size` messages."""

    def inference(self, seconds: float) -> None:
        """Count one run of the model."""

    def predicted(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Count results that are durable in the queue now, by model and label."""

    def stored(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Count the latencies of results that are durable in the DB now."""

    def standing_by(self, yes: bool) -> None:
        """Say whether another process does the work, and this one waits for its end."""

    def close(self) -> None:
        """Free the port."""

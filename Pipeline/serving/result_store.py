"""What `app_2.py` does with a batch: store the results durably, then ack; dead-letter the rest."""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from DB import (
    DatabaseLockedError,
    DatabaseRecordError,
    DatabaseStorageError,
    InsertOutcome,
    ResultDatabase,
)
from MessageBroker import Message, Subscription
from Pipeline.events import EventError, parse_inference
from Pipeline.observability.metrics import Metrics
from Pipeline.observability.tracing import Tracing
from Pipeline.script.waiting import wait_out, within_grace
from Pipeline.serving.batches import log_take_over
from Pipeline.stop import Stop, StoppedError

logger = logging.getLogger(__name__)

NO_INFERENCE_EVENT = "no inference event"


@dataclass
class Counts:
    """What became of the results."""

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_lettered: int = 0


@dataclass
class Batch:
    """Messages, sorted into results and what is none."""

    results: list[tuple[Message, dict[str, Any]]] = field(default_factory=list)
    rejected: list[tuple[Message, Exception]] = field(default_factory=list)


def open_db(path: Path, stop: Stop, metrics: Metrics) -> ResultDatabase:
    """Open the DB; while another app_2 holds it, stand by, and let the metrics say so.

    Raises:
        StoppedError: the script shall stop, and still stood by.
        DatabaseError: the file cannot be used.
    """
    since = time.monotonic()
    stood_by = False

    def waiting() -> bool:  # asked only while another one holds the DB
        nonlocal stood_by
        stood_by = True
        metrics.standing_by(True)
        return stop.requested

    try:
        db = ResultDatabase(path, stop=waiting)
    except DatabaseLockedError as error:
        raise StoppedError from error
    metrics.standing_by(False)
    if stood_by:
        log_take_over(path, time.monotonic() - since)
    return db


class ResultStore:
    """Stores batches of results."""

    def __init__(
        self,
        db: ResultDatabase,
        subscription: Subscription,
        stop: Stop,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._db = db
        self._subscription = subscription
        self._stop = stop
        self._metrics = metrics
        self._tracing = tracing
        self.counts = Counts()

    def store(self, messages: list[Message]) -> None:
        """Store a batch, waiting out a full disk. Acked is only what is durable."""
        batch = _sort(messages)
        try:
            self._insert(batch.results)
        except DatabaseRecordError:  # nothing was stored: find the one that the DB refuses
            for message, result in batch.results:
                try:
                    self._insert([(message, result)])
                except DatabaseRecordError as error:
                    batch.rejected.append((message, error))
        for message, reason in batch.rejected:
            logger.warning(
                "message %s is to be dead-lettered: %s",
                message.id,
                reason,
                extra={
                    "event": "dead-letter",
                    "reason": NO_INFERENCE_EVENT,
                    "error": str(reason),
                    "number": 1,
                    "message_id": message.id,
                },
            )
            self.counts.dead_lettered += within_grace(
                functools.partial(
                    self._subscription.dead_letter, [message], NO_INFERENCE_EVENT, reason
                ),
                self._stop,
            )

    def _insert(self, results: list[tuple[Message, dict[str, Any]]]) -> None:
        records = [record for _, record in results]
        with self._tracing.spans("store result", records):
            outcome: InsertOutcome | None = wait_out(
                DatabaseStorageError, lambda: self._db.insert(records), self._stop
            )
        if outcome is None:
            return  # stopping: un-acked, so it comes again
        self._subscription.ack([message for message, _ in results])
        if outcome.inserted:
            self._metrics.stored(_new(records, outcome))
        self.counts.stored += outcome.inserted
        self.counts.duplicates += outcome.duplicates
        self.counts.conflicts += outcome.conflicts


def _new(records: list[dict[str, Any]], outcome: InsertOutcome) -> list[dict[str, Any]]:
    """Return the records that were new to the DB."""
    if outcome.inserted == len(records):
        return records
    inserted = set(outcome.inserted_ids)
    return [record for record in records if record["id"] in inserted]


def _sort(messages: list[Message]) -> Batch:
    batch = Batch()
    for message in messages:
        try:
            batch.results.append((message, parse_inference(message)))
        except EventError as error:
            batch.rejected.append((message, error))
    return batch

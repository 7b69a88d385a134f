"""A queue for tests that care for its order and its files, not for the records: they are dicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

import Queue
from Queue import encode_record
from Queue.text.consumer import TextBatch

DictRecord = Mapping[str, Any]


class FileQueue(Queue.FileQueue):
    """A `FileQueue` that takes and gives dicts."""

    def put(self, records: Sequence[DictRecord], timeout: float | None = None) -> None:  # type: ignore[override]
        super().put([encode_record(fields) for fields in records], timeout)

    def take(self, max_records: int = 256, timeout: float | None = None) -> TextBatch:
        batch = super().take(max_records, timeout)
        return dataclasses.replace(
            batch,
            records=[orjson.loads(record.body) for record in batch.records],
            corrupt=list(batch.corrupt),
        )

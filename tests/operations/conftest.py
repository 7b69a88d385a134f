"""A pipeline on the embedded broker: hardly anything here depends on which broker it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from DB import Rotation
from DB.text.database import TextDatabase
from Queue import Record, open_queue
from tests.pipeline.conftest import embedded_broker, pipeline, pipeline_on_each_broker

__all__ = ["embedded_broker", "pipeline", "pipeline_on_each_broker"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue, and a DB in parts; the topics are Kafka's."""
    monkeypatch.setenv("MESSAGE_BROKER", "kafka")
    folder = tmp_path / "state"
    folder.mkdir()
    with open_queue(folder / "log.txt") as queue:
        queue.put([Record(str(n), b'{"id":"%d"}' % n) for n in range(20)])
        queue.commit(queue.take(5))
    with TextDatabase(folder / "db.txt", rotation=Rotation(bytes=200)) as db:
        for number in range(9):
            row = {"id": str(number), "label": "7", "model": "m"}
            db.insert([row])
            db.insert([{**row, "label": "1"}])
            db.insert_shadow([row])
    return folder

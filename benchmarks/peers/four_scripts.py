"""This project: the four scripts on Kafka, with the durable queue and DB."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import orjson

from benchmarks.peers.system import GrowingFile, Result, System
from tests.brokers.harness import BrokerUnderTest
from tests.pipeline.runner import Pipeline, Script


class FourScripts(System):
    """A result has arrived when it is durable in the DB."""

    def __init__(self, broker: BrokerUnderTest, folder: Path) -> None:
        self._pipeline = Pipeline(broker, folder)
        super().__init__(self._pipeline.ids_file)
        assert isinstance(self._pipeline.db, Path)
        self._rows = GrowingFile(self._pipeline.db)
        self._scripts: list[Script] = []
        self.restart()

    def publisher(self, count: int, rate: float | None) -> subprocess.Popen[bytes]:
        return app_1(self._pipeline, count, rate)

    def _new_results(self) -> Iterator[Result]:
        for line in self._rows.lines():
            row = orjson.loads(line)
            yield Result(
                row["id"],
                seconds(row["published_at"]),
                seconds(row["stored_at"]),
                row["label"] == row["expected_label"],
            )

    def servers(self) -> list[int]:
        return [each.process.pid for each in self._scripts if each.name != "app_2"]

    def readers(self) -> list[int]:
        return [each.process.pid for each in self._scripts if each.name == "app_2"]

    def kill(self) -> None:
        for script in self._scripts:
            script.process.kill()
        for script in self._scripts:
            script.process.wait()

    def restart(self) -> None:
        self._scripts = [self._pipeline.sub(), self._pipeline.pub(), self._pipeline.app_2()]

    def stop(self) -> None:
        self._pipeline.stop()


def app_1(pipeline: Pipeline, count: int, rate: float | None) -> subprocess.Popen[bytes]:
    """Start `app_1`."""
    return pipeline.app_1("--count", count, *(("--rate", rate) if rate else ())).process


def seconds(time: str) -> float:
    """Return an RFC 3339 time as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()

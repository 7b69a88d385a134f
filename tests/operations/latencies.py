"""Latency while models are reloaded, and while every process is restarted, against quiet times.

    python -m tests.operations.latencies [--broker local] [--rate 200] [--rounds 3]

Quiet and busy stretches take turns in one run, so that the ratio holds on a noisy machine. The
last line says whether every image is in the DB once.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.brokers.harness import BROKERS
from tests.operations.scripts import CheckpointFolder
from tests.pipeline.runner import Pipeline

STRETCH_SECONDS = 10.0
RELOADS = 10


def milliseconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1e3


def quantiles(pipeline: Pipeline, start: float, end: float) -> tuple[float, float]:
    """p50 and p99 in ms of the images published between two moments."""
    latencies = sorted(
        milliseconds(row["stored_at"]) - published
        for row in pipeline.rows()
        if start <= (published := milliseconds(row["published_at"])) < end
    )
    return latencies[len(latencies) // 2], latencies[int(0.99 * len(latencies))]


def reload_often(pipeline: Pipeline, folder: CheckpointFolder, round_: int) -> None:
    for i in range(RELOADS):
        folder.install(round_ * RELOADS + i + 1)
        [sub] = running(pipeline, "model_server_sub")
        sub.process.send_signal(signal.SIGHUP)
        time.sleep(STRETCH_SECONDS / RELOADS)


def restart_all(pipeline: Pipeline, folder: CheckpointFolder, _round: int) -> None:
    for name in ("sub", "pub", "app_2"):
        full = {"sub": "model_server_sub", "pub": "model_server_pub"}.get(name, name)
        [old] = running(pipeline, full)
        options = ("--checkpoint", folder.path) if name == "sub" else ()
        new = getattr(pipeline, name)(*options)
        if name == "sub":
            new.ready()
        else:
            new.says("held by")
        old.terminate()
        new.ready()
        time.sleep(2.0)


def running(pipeline: Pipeline, name: str) -> list:
    return [each for each in pipeline.scripts if each.name == name and each.process.poll() is None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", choices=BROKERS, default="local")
    options = parser.parse_args()
    with (
        BROKERS[options.broker]() as broker,
        tempfile.TemporaryDirectory() as folder,
        Pipeline(broker, Path(folder)) as pipeline,
    ):
        measure(pipeline, CheckpointFolder(Path(folder) / "model"), options)


def measure(pipeline: Pipeline, folder: CheckpointFolder, options: argparse.Namespace) -> None:
    pipeline.sub("--checkpoint", folder.path).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    app_1 = pipeline.app_1("--count", 10_000_000, "--rate", options.rate)
    pipeline.wait_for_rows(int(options.rate * 3))

    stretches: dict[str, list[tuple[float, float]]] = {"quiet": [], "reloads": [], "restarts": []}
    for round_ in range(options.rounds):
        for name, action in (
            ("quiet", lambda *_: time.sleep(STRETCH_SECONDS)),
            ("reloads", reload_often),
            ("quiet", lambda *_: time.sleep(STRETCH_SECONDS)),
            ("restarts", restart_all),
        ):
            start = time.time() * 1e3
            action(pipeline, folder, round_)
            stretches[name].append((start, time.time() * 1e3))
    app_1.terminate()
    pipeline.wait_for_rows(len(pipeline.ids()))

    print(
        f"{'':10}{'p50 ms':>8}{'p99 ms':>8}   (medians of stretches, "
        f"{options.broker}, {options.rate:g} images/s)"
    )
    for name, spans in stretches.items():
        found = [quantiles(pipeline, *span) for span in spans]
        p50, p99 = (statistics.median(each) for each in zip(*found, strict=True))
        print(f"{name:10}{p50:8.0f}{p99:8.0f}")
    pipeline.assert_each_stored_once()
    versions = len({row["model"] for row in pipeline.rows()})
    print(f"{pipeline.stored():,} images, each once in the DB, by {versions} models")


if __name__ == "__main__":
    main()

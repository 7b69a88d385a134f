"""Does the cost of an image grow with the past? A backlog, a full DB, a long run.

    python -m benchmarks.endurance                      500,000 images
    python -m benchmarks.endurance --images 1000000

`app_1` publishes all images before any consumer starts. Then the consumers work the backlog off.
The first tenth is stored while the backlog is at its largest and the DB empty, the last while the
DB holds nearly all. Throughput, and resident memory at its highest, for each tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.pipeline import _peak_memory_mb
from tests.brokers.harness import BROKERS
from tests.pipeline.runner import Pipeline

RESULTS = Path(__file__).resolve().parent / "results" / "endurance.json"
TENTHS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), default="local")
    parser.add_argument("--images", type=int, default=500_000)
    options = parser.parse_args()
    with (
        BROKERS[options.broker]() as broker,
        tempfile.TemporaryDirectory() as folder,
        Pipeline(broker, Path(folder)) as pipeline,
    ):
        rows = measure(pipeline, options.images)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


def measure(pipeline: Pipeline, images: int) -> list[dict[str, float]]:
    start = time.monotonic()
    app_1 = pipeline.app_1("--count", images)
    app_1.process.wait()
    print(f"{images:,} published, {images / (time.monotonic() - start):,.0f}/s, no consumer yet")
    os.sync()  # half a gigabyte: while it is on its way to the disk, all syncs take longer
    # The last stage first: what is predicted before the clock starts would count as quick.
    scripts = [pipeline.app_2().ready(), pipeline.pub().ready(), pipeline.sub().ready()]
    names = [script.name for script in scripts]
    print(f"{'stored':>12} {'images/s':>10}  " + "  ".join(f"{each} MB" for each in names))
    rows = []
    stored_before, since = 0, time.monotonic()
    for tenth in range(1, TENTHS + 1):
        while (stored := _stored(pipeline)) < images * tenth // TENTHS:
            time.sleep(0.2)
        now = time.monotonic()
        row = {"stored": stored, "images_per_second": (stored - stored_before) / (now - since)}
        memory = {each.name: _peak_memory_mb(each.process.pid) for each in scripts}
        stored_before, since = stored, now
        rows.append({**row, **{f"{name}_mb": float(mb) for name, mb in memory.items()}})
        print(
            f"{stored:>12,} {row['images_per_second']:>10,.0f}  "
            + "  ".join(f"{memory[name]:>{len(name) + 3}}" for name in names),
            flush=True,
        )
    return rows


class _Counter:
    """Counts the DB's lines without reading the same ones twice."""

    def __init__(self) -> None:
        self.offset = self.lines = 0

    def count(self, path: Path) -> int:
        if path.exists():
            with path.open("rb") as file:
                file.seek(self.offset)
                while chunk := file.read(1 << 20):
                    self.offset += len(chunk)
                    self.lines += chunk.count(b"\n")
        return self.lines


_counter = _Counter()


def _stored(pipeline: Pipeline) -> int:
    return _counter.count(pipeline.db)


if __name__ == "__main__":
    main()

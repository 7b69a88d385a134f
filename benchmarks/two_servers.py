"""Do two model servers do twice the work of one? On Kafka, with a model that costs 2 ms an image.

    python -m benchmarks.two_servers

Each server has one thread. The shipped model is so quick that on two cores the rest of the
pipeline would be measured; so a heavier one is made here, sized until an image costs 2 ms of a
core. One server and two take turns.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pipeline import throughput
from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from tests.brokers.harness import BROKERS
from tests.pipeline.runner import Pipeline

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "two_servers.json"
WARM_UP_IMAGES = 64
# Enough that two servers get equal shares.
PARTITIONS = 12
# By default the client gives all that is published within 10 ms to one partition. That is quicker,
# but a few thousand images are too few for equal shares then; see docs/scaling.md.
EVEN_SHARES = "sticky.partitioning.linger.ms = 0"

HEAVY_MODEL = """
import sys, keras
from keras import Input, layers
def conv():
    return layers.Conv2D(32, 3, padding="same", activation="relu")
body = [conv() for _ in range(1 + int(sys.argv[2]))]
head = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
keras.Sequential([Input((28, 28, 1)), *body, *head]).save(sys.argv[1])
"""


def heavy_checkpoint(folder: Path, convolutions: int) -> Path:
    """Make a checkpoint of so many 32-channel convolutions at full resolution."""
    path = folder / "heavy.keras"
    command = [sys.executable, "-c", HEAVY_MODEL, str(path), str(convolutions)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def images_per_second(pipeline: Pipeline, checkpoint: Path, servers: int, images: int) -> float:
    subs = [
        pipeline.sub("--checkpoint", checkpoint, "--threads", 1, "--batch-size", 32)
        for _ in range(servers)
    ]
    consumers = [pipeline.pub(), pipeline.app_2()]
    for script in (*subs, *consumers):
        script.ready()
    before = len(pipeline.rows())
    pipeline.app_1("--count", WARM_UP_IMAGES).end()
    pipeline.wait_for_rows(before + WARM_UP_IMAGES)
    time.sleep(1.0)
    pipeline.app_1("--count", images).end()
    pipeline.wait_for_rows(before + WARM_UP_IMAGES + images)
    for script in (*subs, *consumers):
        script.terminate()
    return throughput(pipeline.rows()[before + WARM_UP_IMAGES :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), default="kafka")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--convolutions", type=int, default=15, help="of the heavy model")
    parser.add_argument("--shipped", action="store_true", help="the shipped model instead")
    options = parser.parse_args()
    broker = BROKERS[options.broker]()
    broker.start()
    if options.broker == "kafka":
        ini = broker.config_dir / "kafka_config.ini"
        text = re.sub(r"num_partitions = \d+", f"num_partitions = {PARTITIONS}", ini.read_text())
        ini.write_text(f"{text}[producer]\n{EVEN_SHARES}\n")
    figures: dict[int, list[float]] = {1: [], 2: []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = (
                DEFAULT_CHECKPOINT
                if options.shipped
                else heavy_checkpoint(Path(folder), options.convolutions)
            )
            pipeline = Pipeline(broker, Path(folder))
            for _ in range(options.rounds):
                for servers, rates in figures.items():
                    rates.append(images_per_second(pipeline, checkpoint, servers, options.images))
                    print(f"{servers} server(s): {rates[-1]:,.0f} images/s", flush=True)
    finally:
        broker.stop()
    ratio = statistics.median(two / one for one, two in zip(*figures.values(), strict=True))
    print(f"two servers do {ratio:.2f} times the work of one")
    RESULTS.write_text(json.dumps({"images_per_second": figures, "ratio": ratio}, indent=2) + "\n")


if __name__ == "__main__":
    main()

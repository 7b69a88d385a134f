"""Do two model servers do twice the work of one? On Kafka, with a model that costs 2 ms an image.

    python -m benchmarks.two_servers

Each server has one thread. The shipped model is so quick that on two cores the rest of the
pipeline would be measured; so a heavier one is made here, sized until an image costs 2 ms of a
core. One server and two take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pipeline import throughput
from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from tests.brokers.harness import BROKERS, BrokerUnderTest, KafkaUnderTest
from tests.pipeline.runner import Pipeline

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "two_servers.json"
WARM_UP_IMAGES = 64
BROKER_WARM_UP_IMAGES = 20_000
# Results carry their times: looking more often would only take the cores from what is measured (s).
LOOK_SECONDS = 0.5
BATCH_SIZE = 64
# Enough that two servers get equal shares.
PARTITIONS = 12
# By default the client gives all that is published within 10 ms to one partition. That is quicker,
# but a few thousand images are too few for equal shares then; see docs/scaling.md. For the images
# only: results in many small requests would cost the broker a tenth of a core.
EVEN_SHARES = "\n[producer]\nsticky.partitioning.linger.ms = 0\n"

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


def images_per_second(
    broker: BrokerUnderTest, folder: Path, checkpoint: Path, servers: int, images: int
) -> float:
    """Run a new pipeline: topics, queue and DB are as small each time."""
    pipeline = Pipeline(broker, folder)
    for_app_1 = folder / "config of app_1"
    shutil.copytree(pipeline.config_dir, for_app_1)
    if broker.name == "kafka":
        with (for_app_1 / "kafka_config.ini").open("a") as ini:
            ini.write(EVEN_SHARES)
    subs = [
        pipeline.sub("--checkpoint", checkpoint, "--threads", 1, "--batch-size", BATCH_SIZE)
        for _ in range(servers)
    ]
    consumers = [pipeline.pub(), pipeline.app_2()]
    for script in (*subs, *consumers):
        script.ready()
    for count in (WARM_UP_IMAGES, images):
        before = pipeline.stored()
        pipeline.app_1("--count", count, "--config-dir", for_app_1).end()
        while pipeline.stored() < before + count:
            time.sleep(LOOK_SECONDS)
    for script in (*subs, *consumers):
        script.terminate()
    return throughput(pipeline.rows()[WARM_UP_IMAGES:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), default="kafka")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--convolutions", type=int, default=15, help="of the heavy model")
    parser.add_argument("--shipped", action="store_true", help="the shipped model instead")
    options = parser.parse_args()
    broker = BROKERS[options.broker]()
    if isinstance(broker, KafkaUnderTest):
        broker.partitions = PARTITIONS
    figures: dict[int, list[float]] = {1: [], 2: []}
    with broker, tempfile.TemporaryDirectory() as folder:
        checkpoint = (
            DEFAULT_CHECKPOINT
            if options.shipped
            else heavy_checkpoint(Path(folder), options.convolutions)
        )
        # A broker that has just been started interprets its code, and takes more of the cores.
        first = Path(folder, "warm-up")
        first.mkdir()
        images_per_second(broker, first, DEFAULT_CHECKPOINT, 1, BROKER_WARM_UP_IMAGES)
        for number in range(options.rounds):
            for servers, rates in figures.items():
                place = Path(folder, f"{number}-{servers}")
                place.mkdir()
                rates.append(images_per_second(broker, place, checkpoint, servers, options.images))
                print(f"{servers} server(s): {rates[-1]:,.0f} images/s", flush=True)
    ratio = statistics.median(two / one for one, two in zip(*figures.values(), strict=True))
    print(f"two servers do {ratio:.2f} times the work of one")
    RESULTS.write_text(json.dumps({"images_per_second": figures, "ratio": ratio}, indent=2) + "\n")


if __name__ == "__main__":
    main()

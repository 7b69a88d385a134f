"""What `benchmarks.check` runs in each of two commits: short pieces of work, and what they cost.

    python -m benchmarks.probes queue

prints, as one JSON object, `[units, seconds of CPU, seconds]` for each piece of work. A probe uses
the benchmarks and public names of its own commit; so each commit measures itself, and whoever
changes an interface changes its probe. The brokers run already: the environment and `--config-dir`
say where.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import uuid_utils

from benchmarks import brokers
from benchmarks import db as db_benchmark
from benchmarks import queue as queue_benchmark
from benchmarks.pipeline import running, throughput
from DB import open_database
from MessageBroker import MessageBrokerFactory
from Modelling.data_preparation import bundled_test_images, encode_npy
from Modelling.predict_cnn import load_classifier
from Queue import FileQueue
from tests.brokers.harness import BROKERS

BATCH = 256
# So much that each piece of work takes about half a second of CPU.
QUEUE_BATCHES = 400
DB_BATCHES = 250
PREDICT_BATCHES = 16
MESSAGES = {"local": 150 * 256, "kafka": 10 * 10_000}
CONSUMERS = ("model_server_sub", "model_server_pub", "app_2")
# Of each image: it is much quicker than predicting.
PREPARATIONS = 24
PIPELINE_IMAGES = 4000


class Cost(NamedTuple):
    """What some work has cost: all threads of the processes that did it."""

    units: int
    cpu_seconds: float
    seconds: float


Costs = dict[str, Cost]


def cost_of(units: int, work: Callable[[], object]) -> Cost:
    """Do some work in this process."""
    cpu, began = time.process_time(), time.perf_counter()
    work()
    return Cost(units, time.process_time() - cpu, time.perf_counter() - began)


def queue(_folder: Path) -> Costs:
    """Durable puts of 256 records, and their way out."""
    records = [queue_benchmark.RECORD] * BATCH

    def put(batches: int) -> None:
        for _ in range(batches):
            queue_benchmark.put_encoded(queue, records)

    def take(batches: int) -> None:
        for _ in range(batches):
            queue.commit(queue.take(BATCH, timeout=5))

    with queue_benchmark.folder() as path, FileQueue(path / "log.txt") as queue:
        put(10)
        take(10)
        return {
            "queue put": cost_of(QUEUE_BATCHES * BATCH, lambda: put(QUEUE_BATCHES)),
            "queue take and commit": cost_of(QUEUE_BATCHES * BATCH, lambda: take(QUEUE_BATCHES)),
        }


def db(_folder: Path) -> Costs:
    """Durable inserts of 256 results."""
    batches = [db_benchmark.new_results(BATCH, uuid_utils.uuid7) for _ in range(10 + DB_BATCHES)]

    def insert(these: list[list[dict[str, object]]]) -> None:
        for batch in these:
            database.insert(batch)

    with db_benchmark.folder() as path, open_database(path / "db.txt") as database:
        insert(batches[:10])
        return {"DB insert": cost_of(DB_BATCHES * BATCH, lambda: insert(batches[10:]))}


def local(folder: Path) -> Costs:
    """Publish, receive and acknowledge on the embedded broker."""
    return _broker("local", folder)


def kafka(folder: Path) -> Costs:
    """Publish, receive and acknowledge on Kafka."""
    return _broker("kafka", folder)


def _broker(name: str, folder: Path) -> Costs:
    load = replace(brokers.LOADS[name], messages=MESSAGES[name])
    batches = brokers.batches_of(load)
    topic = f"check-{uuid.uuid4().hex[:12]}"
    with MessageBrokerFactory.get_broker(name, config_dir=folder) as broker:
        broker.create_topic(topic)
        brokers.publish(broker, topic, batches[:1])  # connects
        publishing = cost_of(load.messages, lambda: brokers.publish(broker, topic, batches))
        count = load.messages + load.publish_batch
        cpu = time.process_time()
        seconds = brokers.consume(broker, topic, count, load.receive_batch)
        consuming = Cost(count, time.process_time() - cpu, seconds)
        broker.delete_topic(topic)
    return {f"{name} publish": publishing, f"{name} receive and ack": consuming}


def predict(_folder: Path) -> Costs:
    """Prepare and classify images, with one thread."""
    classifier = load_classifier(threads=1)
    images = [encode_npy(image) for image in bundled_test_images()[0][: BATCH * PREDICT_BATCHES]]
    batches = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
    prepared = [classifier.prepare_batch(batch)[0] for batch in batches]
    classifier.warm_up()
    return {
        "prepare": cost_of(
            PREPARATIONS * len(images),
            lambda: [classifier.prepare_batch(each) for each in PREPARATIONS * batches],
        ),
        "predict": cost_of(len(images), lambda: [classifier.predict(each) for each in prepared]),
    }


def pipeline(_folder: Path) -> Costs:
    """The four scripts on the embedded broker, up and warm."""
    with BROKERS["local"]() as broker, running(broker) as scripts:
        rows, spent = scripts.send("--count", PIPELINE_IMAGES)
    seconds = len(rows) / throughput(rows)
    # Only the sum has app_1, which ends: its last tick is seen now and then.
    costs = {f"pipeline, {each}": spent[each] for each in CONSUMERS}
    costs["pipeline, all"] = sum(spent.values())
    return {name: Cost(len(rows), cpu, seconds) for name, cpu in costs.items()}


PROBES: dict[str, Callable[[Path], Costs]] = {
    each.__name__: each for each in (queue, db, local, kafka, predict, pipeline)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("probe", choices=list(PROBES))
    parser.add_argument("--config-dir", type=Path, help="of the brokers")
    options = parser.parse_args()
    gc.freeze()  # as the scripts do
    print(json.dumps(PROBES[options.probe](options.config_dir)))


if __name__ == "__main__":
    main()

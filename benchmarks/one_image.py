"""One image at a time: the four scripts beside a bare loop of the same hops.

    python -m benchmarks.one_image                     on the embedded broker, then on Kafka
    python -m benchmarks.one_image --broker kafka

The bare loop is three processes and whoever publishes to them, as ours are: one receives, predicts
by the same engine and appends to a synced file; one publishes what it finds there, and syncs how
far it is; one receives and appends to a synced file. So an image waits for a sync at each hop, at
the put and, as in ours, for none at the insert: the row says when it was about to be stored. (Ours
hands on what is committed or written, and syncs it meanwhile; what it confirms is synced, too.)
Nothing is checked, counted, retried or leased; on the embedded broker a hop is a SQLite file and a
named pipe. Both are offered 20 images a second, by turns.

Rows of ours have times of whole milliseconds. So the period is none of whole milliseconds (else all
would be rounded alike), and equal latencies are spread over their millisecond.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipeline import ROOT, latencies_of, running
from MessageBroker import MessageBrokerFactory
from Modelling.data_preparation import bundled_test_images
from Modelling.images.decoding import encode_npy
from Modelling.predict_cnn import load_classifier
from tests.brokers.harness import BROKERS, BrokerUnderTest

RESULTS = Path(__file__).resolve().parent / "results" / "one_image.json"
RATE = 19.9
SECONDS = 15.0
ROUNDS = 3
IMAGES, RESULTS_TOPIC = "bare-images", "bare-results"

# A message of the bare loop: when it was meant to be sent, and what it brings.
Bare = tuple[str, bytes]


class Hop(ABC):
    """A topic with one producer and one consumer."""

    @abstractmethod
    def publish(self, message: Bare) -> None:
        """Return when it is confirmed."""

    @abstractmethod
    def receive(self) -> list[Bare]:
        """Wait for messages; those of the last call are acknowledged."""


class KafkaHop(Hop):
    """confluent-kafka with the handler's properties."""

    def __init__(self, topic: str, settings: Any) -> None:
        from confluent_kafka import Consumer, Producer

        self._topic = topic
        self._producer = Producer(dict(settings.for_producer()))
        properties = {**settings.for_consumer(f"{topic}-bare"), "enable.partition.eof": "false"}
        self._consumer = Consumer(properties)

    def publish(self, message: Bare) -> None:
        self._producer.produce(self._topic, message[1], headers={"time": message[0]})
        self._producer.flush()

    def receive(self) -> list[Bare]:
        if not self._consumer.assignment():
            self._consumer.subscribe([self._topic])
        while (record := self._consumer.poll(1.0)) is None or record.error() is not None:
            pass
        self._consumer.store_offsets(message=record)
        return [(dict(record.headers())["time"].decode(), record.value())]


class SqliteHop(Hop):
    """A table in a file, `synchronous=FULL`, and a named pipe that tells of it."""

    def __init__(self, topic: str, folder: Path) -> None:
        self._db = sqlite3.connect(folder / f"{topic}.sqlite", isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS m (seq INTEGER PRIMARY KEY, t TEXT, d BLOB)")
        self._bell = Bell(folder / f"{topic}.bell")
        self._done = 0

    def publish(self, message: Bare) -> None:
        self._db.execute("INSERT INTO m (t, d) VALUES (?, ?)", message)
        self._bell.ring()

    def receive(self) -> list[Bare]:
        if self._done:
            self._db.execute("DELETE FROM m WHERE seq <= ?", (self._done,))
        while not (rows := self._db.execute("SELECT * FROM m ORDER BY seq").fetchall()):
            self._bell.wait()
        self._done = rows[-1][0]
        return [(sent, data) for _, sent, data in rows]


class Bell:
    """A named pipe."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._pipe, b"!")

    def wait(self) -> None:
        select.select([self._pipe], [], [], 1.0)
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, 4096)


class Bench:
    """What a process of the bare loop needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._broker = MessageBrokerFactory.get_broker(config_dir=folder / "config")

    def hop(self, topic: str) -> Hop:
        if self._broker.name == "kafka":
            return KafkaHop(topic, self._broker._settings)  # type: ignore[attr-defined]
        return SqliteHop(topic, self.folder)

    def append(self, name: str) -> int:
        """Open a text to append to."""
        return os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def write_synced(file: int, lines: list[dict[str, Any]]) -> None:
    """Append lines, durable when it returns."""
    os.write(file, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    os.fdatasync(file)


def serve(bench: Bench) -> None:
    """Receive, predict, append durably."""
    classifier, images = load_classifier(), bench.hop(IMAGES)
    log, bell = bench.append("log"), Bell(bench.folder / "log.bell")
    while True:
        messages = images.receive()
        batch, _ = classifier.prepare_batch([data for _, data in messages])
        labels = classifier.predict(batch).labels
        write_synced(
            log,
            [
                {"sent": sent, "label": label}
                for (sent, _), label in zip(messages, labels, strict=True)
            ],
        )
        bell.ring()


def publish(bench: Bench) -> None:
    """Publish what was appended, and note durably how far that is."""
    results, bell = bench.hop(RESULTS_TOPIC), Bell(bench.folder / "log.bell")
    os.close(bench.append("log"))
    cursor = os.open(bench.folder / "cursor", os.O_WRONLY | os.O_CREAT, 0o640)
    with (bench.folder / "log").open("rb") as log:
        while True:
            while line := log.readline():
                results.publish((json.loads(line)["sent"], line))
                os.pwrite(cursor, b"%016d" % log.tell(), 0)
                os.fdatasync(cursor)
            bell.wait()


def store(bench: Bench) -> None:
    """Receive, append durably."""
    results, db = bench.hop(RESULTS_TOPIC), bench.append("db")
    while True:
        rows = [json.loads(data) for _, data in results.receive()]
        write_synced(db, [{**row, "stored": time.time()} for row in rows])


ROLES: dict[str, Callable[[Bench], None]] = {"server": serve, "publisher": publish, "store": store}


# ---------------------------------------------------------------------- the comparison


class BareLoop:
    """The three processes, warm, and whoever publishes to them."""

    def __init__(self, broker: BrokerUnderTest, folder: Path) -> None:
        self._db = folder / "db"
        self._db.touch()
        self._images = [encode_npy(each) for each in bundled_test_images()[0][:256]]
        environment = {**os.environ, **broker.environment, "MESSAGE_BROKER": broker.name}
        os.environ.update(broker.environment, MESSAGE_BROKER=broker.name)
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.one_image", "--role", role, str(folder)],
                cwd=ROOT,
                env=environment,
            )
            for role in ROLES
        ]
        self._hop = Bench(folder).hop(IMAGES)
        self._sent = 0
        self.send(20)

    def send(self, count: int) -> list[float]:
        """Send at the rate, and return the seconds of each."""
        start = time.time()
        for number in range(count):
            due = start + number / RATE
            time.sleep(max(0.0, due - time.time()))
            self._hop.publish((repr(due), self._images[number % len(self._images)]))
        self._sent += count
        while len(rows := self._rows()) < self._sent:
            time.sleep(0.1)
        return [row["stored"] - float(row["sent"]) for row in rows[-count:]]

    def _rows(self) -> list[dict[str, Any]]:
        whole = self._db.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


def spread(milliseconds: Sequence[float]) -> list[float]:
    """Spread latencies of whole milliseconds evenly over the millisecond that each stands for."""
    counts = Counter(round(each) for each in milliseconds)
    return [
        value - 0.5 + (number + 0.5) / count
        for value, count in counts.items()
        for number in range(count)
    ]


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return what is compared."""
    p50, p99 = np.percentile(milliseconds, (50, 99))
    return {"p50": p50, "p99": p99, "max": max(milliseconds)}


def compare(broker: BrokerUnderTest, rounds: int) -> dict[str, Any]:
    """Bare loop and pipeline in turn; medians of the rounds."""
    count = int(RATE * SECONDS)
    bare, ours = [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "config").symlink_to(broker.config_dir)
        pipeline = stack.enter_context(running(broker))
        handler = broker.connect()
        for topic in (IMAGES, RESULTS_TOPIC):
            handler.create_topic(topic)
        loop = BareLoop(broker, folder)
        stack.callback(loop.close)
        for _ in range(rounds):
            bare.append(percentiles([1e3 * each for each in loop.send(count)]))
            rows, _ = pipeline.send("--count", count, "--rate", RATE)
            ours.append(percentiles(spread(latencies_of(rows))))
    return {
        name: {
            "bare_ms": statistics.median(each[name] for each in bare),
            "ours_ms": statistics.median(each[name] for each in ours),
            "ratio": statistics.median(o[name] / b[name] for o, b in zip(ours, bare, strict=True)),
        }
        for name in ("p50", "p99", "max")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), action="append")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, folder = options.role
        ROLES[role](Bench(Path(folder)))
    results = {}
    for name in options.broker or ["local", "kafka"]:
        with BROKERS[name]() as broker:
            results[name] = compare(broker, options.rounds)
        print(f"{name}: published to stored at {RATE:g} images a second")
        for percentile, figures in results[name].items():
            print(
                f"  {percentile:<4} bare {figures['bare_ms']:7.1f} ms   ours "
                f"{figures['ours_ms']:7.1f} ms   ratio {figures['ratio']:.2f}"
            )
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

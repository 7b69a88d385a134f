"""The pipeline against the bare model: throughput, latency, and where an image's time goes.

    python -m benchmarks.pipeline                               the whole comparison
    python -m benchmarks.pipeline --broker kafka                on one broker
    python -m benchmarks.pipeline --broker kafka --past-one-host    queue on Redis, DB on PostgreSQL
    python -m benchmarks.pipeline --rate 2000 --seconds 20      a load test at a fixed rate

The four scripts run as real processes with the durable queue and DB, on a real broker that shares
the machine's cores. Throughput counts from the first `published_at` to the last `stored_at`, with
the consumers up, warm and idle before; latency from the time at which an image was *meant* to be
sent (an open loop: a slow pipeline does not slow its load). The bare model is the shipped
checkpoint as a concrete `tf.function` at its best batch size, with all cores and nothing else
running. Bare model and pipeline take turns, so that the ratio holds on a machine whose speed
drifts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.percentiles import medians
from tests.brokers.harness import BROKERS, BrokerUnderTest
from tests.engines.postgres_server import PostgresServer
from tests.engines.redis_server import RedisServer
from tests.pipeline.runner import Pipeline, Script

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "pipeline.json"

IMAGES = 20_000
ROUNDS = 3
IDLE_RATE, IDLE_SECONDS = 20.0, 15.0
# Shares of the throughput just measured that are then offered at a fixed rate.
LOAD_SHARES = (0.25, 0.5, 0.75)
LOAD_SECONDS = 6.0
WARM_UP_IMAGES = 2000
BARE_BATCH_SIZES = (64, 256, 1024)

BARE_MODEL = """
import sys, time, numpy as np
from Modelling.data_preparation import bundled_test_images
from Modelling.predict_cnn import DEFAULT_CHECKPOINT
import tensorflow as tf, keras
model = keras.models.load_model(DEFAULT_CHECKPOINT, compile=False)
images = bundled_test_images()[0].astype("float32")[..., None] / 255
call = tf.function(lambda x: model(x, training=False), input_signature=[
    tf.TensorSpec([None, *images.shape[1:]], tf.float32)]).get_concrete_function()
best = 0.0
for size in map(int, sys.argv[1:]):
    batches = [tf.constant(images[i : i + size]) for i in range(0, len(images) - size + 1, size)]
    for batch in batches[:5]:
        call(batch)
    start = time.perf_counter()
    for batch in batches:
        call(batch).numpy()
    best = max(best, len(batches) * size / (time.perf_counter() - start))
print(best)
"""

NAIVE = """
import time, numpy as np, tensorflow as tf, keras
from Modelling.data_preparation import bundled_test_images
from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from MessageBroker import MessageBrokerFactory
import json, os, sys
model = keras.models.load_model(DEFAULT_CHECKPOINT, compile=False)
images = bundled_test_images()[0].astype("float32")[..., None] / 255
broker = MessageBrokerFactory.get_broker(config_dir=sys.argv[1])
broker.create_topic(sys.argv[2])
model.predict(images[:1], verbose=0)
count = 100
start = time.perf_counter()
with open(os.path.join(sys.argv[1], "naive.txt"), "a") as file:
    for i in range(count):
        label = int(np.argmax(model.predict(images[i : i + 1], verbose=0)))
        file.write(json.dumps({"label": label}) + "\\n")
        file.flush()
        os.fsync(file.fileno())
        broker.publish(sys.argv[2], json.dumps({"label": label}).encode())
        broker.flush(30)
print(count / (time.perf_counter() - start))
broker.close()
"""


def bare_model() -> float:
    """Return the images per second of the bare model."""
    return _rate_of(BARE_MODEL, *BARE_BATCH_SIZES)


def _rate_of(code: str, *arguments: object, **environment: str) -> float:
    output = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**psutil.Process().environ(), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    return float(output.stdout.split()[-1])


class Running:
    """The three consumers, up and warm, and what they have cost."""

    def __init__(self, pipeline: Pipeline, *warm_up: object) -> None:
        self.pipeline = pipeline
        self.scripts: list[Script] = [pipeline.sub(), pipeline.pub(), pipeline.app_2()]
        self.seconds_until_ready = {}
        started = time.monotonic()
        for script in sorted(self.scripts, key=lambda each: each.name):
            script.ready()
            self.seconds_until_ready[script.name] = time.monotonic() - started
        self.rows_before = 0
        self.send(*(warm_up or ("--count", WARM_UP_IMAGES)))

    def send(self, *arguments: object) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Send images through; return their rows, and the CPU seconds of each script."""
        before = {script.name: _cpu_seconds(script) for script in self.scripts}
        app_1 = self.pipeline.app_1(*arguments)
        with psutil.Process(app_1.process.pid).oneshot():
            own = _watched_cpu_seconds(app_1)
        app_1.end()
        count = len(self.pipeline.ids()) - self.rows_before
        self.pipeline.wait_for_rows(self.rows_before + count)
        rows = self.pipeline.rows()[self.rows_before :]
        self.rows_before += count
        spent = {script.name: _cpu_seconds(script) - before[script.name] for script in self.scripts}
        return rows, {"app_1": own, **spent}

    def peak_memory_mb(self) -> dict[str, int]:
        """Resident memory of each consumer at its highest, in MB."""
        return {script.name: _peak_memory_mb(script.process.pid) for script in self.scripts}


def _cpu_seconds(script: Script) -> float:
    times = psutil.Process(script.process.pid).cpu_times()
    return times.user + times.system


def _watched_cpu_seconds(script: Script) -> float:
    """CPU seconds of a process that ends: the last that was seen."""
    process = psutil.Process(script.process.pid)
    seconds = 0.0
    while script.process.poll() is None:
        try:
            times = process.cpu_times()
            seconds = max(seconds, times.user + times.system)
        except psutil.Error:
            break
        time.sleep(0.02)
    return seconds


def _peak_memory_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return psutil.Process(pid).memory_info().rss // 2**20
    line = next(each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


@contextmanager
def running(broker: BrokerUnderTest, past_one_host: bool = False) -> Iterator[Running]:
    """Start a pipeline on a broker, in a folder of its own; or on servers of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pipeline = Pipeline(broker, folder)
        if past_one_host:
            pipeline.queue = stack.enter_context(RedisServer()).url()
            pipeline.db = stack.enter_context(PostgresServer()).url()
        yield Running(stack.enter_context(pipeline))


def throughput(rows: list[dict[str, Any]]) -> float:
    """Return the images per second from the first published to the last stored."""
    start = min(_moment(row["published_at"]) for row in rows)
    end = max(_moment(row["stored_at"]) for row in rows)
    return len(rows) / (end - start)


def latencies_of(rows: list[dict[str, Any]]) -> list[float]:
    """From the intended sending to the DB, of each row (ms)."""
    return [1e3 * (_moment(row["stored_at"]) - _moment(row["published_at"])) for row in rows]


def latencies_ms(rows: list[dict[str, Any]]) -> dict[str, float]:
    """From the intended sending to durable in the DB."""
    values = latencies_of(rows)
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def compare(
    broker: BrokerUnderTest, rounds: int, images: int, past_one_host: bool
) -> dict[str, Any]:
    """Bare model and pipeline in turn; medians."""
    bare, piped, budget = [], [], []
    with running(broker, past_one_host) as pipeline:
        for _ in range(rounds):
            bare.append(bare_model())
            rows, spent = pipeline.send("--count", images)
            piped.append(throughput(rows))
            budget.append({name: 1e6 * seconds / images for name, seconds in spent.items()})
        quiet, _ = pipeline.send("--count", int(IDLE_RATE * IDLE_SECONDS), "--rate", IDLE_RATE)
        loaded = {}
        for share in LOAD_SHARES:
            rate = share * statistics.median(piped)
            rows, _ = pipeline.send("--count", int(rate * LOAD_SECONDS), "--rate", rate)
            loaded[f"{share:.0%} of the throughput"] = {"rate": rate, **latencies_ms(rows)}
        memory = pipeline.peak_memory_mb()
    ratios = [p / b for p, b in zip(piped, bare, strict=True)]
    return {
        "bare_images_per_second": statistics.median(bare),
        "images_per_second": statistics.median(piped),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "cpu_us_per_image": medians(budget),
        f"latency_ms_at_{IDLE_RATE:g}_per_second": latencies_ms(quiet),
        "latency_ms_under_load": loaded,
        "peak_memory_mb": memory,
        "seconds_until_ready": pipeline.seconds_until_ready,
    }


def naive(broker: BrokerUnderTest) -> float:
    """`model.predict` for each image, an fsync and a flush for each message, no batching."""
    return _rate_of(
        NAIVE,
        broker.config_dir,
        broker.unused_name("naive"),
        MESSAGE_BROKER=broker.name,
        **broker.environment,
    )


def load_test(
    broker: BrokerUnderTest, rate: float, seconds: float, past_one_host: bool
) -> dict[str, Any]:
    """Offer a fixed rate; tell the latency, and whether the pipeline kept up."""
    with running(broker, past_one_host) as pipeline:
        rows, _ = pipeline.send("--count", int(rate * seconds), "--rate", rate)
        return {
            "offered_per_second": rate,
            "images_per_second": throughput(rows),
            "latency_ms": latencies_ms(rows),
            "peak_memory_mb": pipeline.peak_memory_mb(),
        }


def _show(name: str, figures: dict[str, Any], indent: int = 0) -> None:
    print(" " * indent + name)
    for key, value in figures.items():
        if isinstance(value, dict):
            _show(key, value, indent + 2)
        elif isinstance(value, list):
            print(" " * (indent + 2) + f"{key:<28} {'  '.join(f'{each:.3f}' for each in value)}")
        else:
            print(" " * (indent + 2) + f"{key:<28} {value:,.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), action="append")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rate", type=float, help="a load test at this rate alone")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--past-one-host", action="store_true", help="Redis and PostgreSQL")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.broker or ["local", "kafka"]:
        with BROKERS[name]() as broker:
            if options.rate:
                results[name] = load_test(
                    broker, options.rate, options.seconds, options.past_one_host
                )
            else:
                results[name] = compare(
                    broker, options.rounds, options.images, options.past_one_host
                )
                if name == "local":
                    results[name]["naive_images_per_second"] = naive(broker)
                    results[name]["times_naive"] = (
                        results[name]["images_per_second"]
                        / results[name]["naive_images_per_second"]
                    )
        _show(name, results[name])
    if not options.rate and not options.past_one_host:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

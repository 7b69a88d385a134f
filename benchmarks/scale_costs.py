"""What `benchmarks.scale` measures: the four scripts on Kafka, by cluster, by servers and by load.

All is CPU time an image, of each script and of the brokers, and the times that the results carry.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.usage import cpu_seconds
from benchmarks.percentiles import medians, middle
from benchmarks.pipeline import Running, latencies_ms, latencies_of, throughput
from DurableText.moments import seconds_of
from DurableText.program.wording import counted
from Modelling.cores import available_cores
from Pipeline.script.options import DEFAULT_BATCH_SIZE
from Pipeline.serving.pacing import GROUP_SECONDS, GROUP_SIZE
from tests.brokers.harness import KafkaUnderTest
from tests.pipeline.runner import Pipeline, Script
from tests.waiting import wait_until

Row = dict[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Amounts:
    """How much is measured."""

    images: int = 20_000
    rounds: int = 3
    warm_ups: int = 4
    idle_seconds: float = 4.0
    single_rate: float = 20.0
    single_seconds: float = 10.0
    load_seconds: float = 5.0
    calm_share: float = 0.125
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    partitions: tuple[int, ...] = (1, 12, 48)
    brokers: tuple[int, ...] = (1, 3)
    servers: int = 4
    # So many that each of several servers has its share for a second and more: the first batches
    # after a pause cost more, and each server has them.
    server_images: int = 80_000


QUICK = Amounts(
    images=4000, rounds=1, warm_ups=1, idle_seconds=1.0, single_seconds=3.0, load_seconds=2.0,
    partitions=(1, 12), brokers=(1,), server_images=8000,
)  # fmt: skip
# What the other measurements are made on.
BASE = (1, 12)
# What all rows of a batch share: of the model server, and of app_2.
SEEN = ("received_at", "stored_at")


class Kafka(KafkaUnderTest):
    """Kafka of so many nodes, whose topics have so many partitions."""

    def __init__(self, nodes: int, partitions: int) -> None:
        super().__init__()
        self.nodes, self.partitions = nodes, partitions


class Measured(Running):
    """The scripts, and the brokers' processes beside them."""

    def __init__(self, broker: Kafka, pipeline: Pipeline) -> None:
        self.broker = broker
        super().__init__(pipeline)
        self.publisher_start = self._start_of_app_1()

    def costs(self, *arguments: object) -> tuple[list[Row], dict[str, float]]:
        """Send images through; return their rows, and microseconds of CPU an image."""
        before = cpu_seconds(self.broker.pids)
        rows, spent = self.send(*arguments)
        spent["app_1"] = max(0.0, spent["app_1"] - self.publisher_start)
        spent["broker"] = cpu_seconds(self.broker.pids) - before
        return rows, {name: 1e6 * seconds / len(rows) for name, seconds in spent.items()}

    def idle(self, seconds: float) -> dict[str, float]:
        """Return what each takes of a core while nothing comes."""
        pids = {each.name: [each.process.pid] for each in self.scripts}
        pids["broker"] = self.broker.pids
        before = {name: cpu_seconds(each) for name, each in pids.items()}
        time.sleep(seconds)
        return {name: (cpu_seconds(each) - before[name]) / seconds for name, each in pids.items()}

    def _start_of_app_1(self) -> float:
        return statistics.median(self.send("--count", 1)[1]["app_1"] for _ in range(3))


@contextmanager
def running(broker: Kafka) -> Iterator[Measured]:
    """Start the scripts in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder, Pipeline(broker, Path(folder)) as pipeline:
        yield Measured(broker, pipeline)


def measure(amounts: Amounts, tell: Tell) -> dict[str, Any]:
    """Measure all."""
    cores = available_cores()
    found: dict[str, Any] = {"cores": cores, "batch": DEFAULT_BATCH_SIZE, "by_cluster": []}
    for nodes, partitions in itertools.product(amounts.brokers, amounts.partitions):
        with Kafka(nodes, partitions) as broker:
            with running(broker) as scripts:
                found["by_cluster"].append(_saturated(scripts, amounts, tell))
                if (nodes, partitions) == BASE:
                    found |= _by_load(scripts, amounts, tell)
            if (nodes, partitions) == BASE:
                found["servers"] = _by_servers(broker, amounts, tell)
                found["membership"] = _membership(broker, tell)
    return found


def _saturated(scripts: Measured, amounts: Amounts, tell: Tell) -> dict[str, Any]:
    """As fast as it goes."""
    rates, costs, batches = [], [], []
    for _ in range(amounts.warm_ups):  # the broker compiles its code
        scripts.costs("--count", amounts.images)
    began, busy, ours = time.monotonic(), _busy_seconds(), 0.0
    for _ in range(amounts.rounds):
        rows, cost = scripts.costs("--count", amounts.images)
        ours += 1e-6 * sum(cost.values()) * len(rows) + scripts.publisher_start
        rates.append(throughput(rows))
        costs.append(cost)
        batches.append(batches_of(rows, math.inf))
    found = {
        "brokers": scripts.broker.nodes,
        "partitions": scripts.broker.partitions,
        "images": amounts.images,
        "images_per_second": statistics.median(rates),
        "us": medians(costs),
        "batches": medians(batches),
        "seconds_until_ready": scripts.seconds_until_ready,
        "others_cores": max(0.0, _busy_seconds() - busy - ours) / (time.monotonic() - began),
    }
    whole = sum(found["us"].values())
    tell(
        f"{counted(found['brokers'], 'broker')}, {counted(found['partitions'], 'partition')}: "
        f"{found['images_per_second']:,.0f} images/s, {whole:.0f} us an image"
    )
    return found


def _busy_seconds() -> float:
    """Return the CPU seconds that the whole machine has spent."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice


def _by_load(scripts: Measured, amounts: Amounts, tell: Tell) -> dict[str, Any]:
    """At fixed rates: one by one, and at shares of the highest."""
    idle = scripts.idle(amounts.idle_seconds)
    highest = throughput(scripts.costs("--count", amounts.images)[0])
    plans = [(amounts.single_rate, amounts.single_seconds)]
    calm = amounts.calm_share * highest
    plans += [(calm, amounts.load_seconds)]
    plans += [(share * highest, amounts.load_seconds) for share in amounts.shares]
    loads: dict[float, list[Row]] = {rate: [] for rate, _ in plans}
    for _ in range(amounts.rounds):
        for rate, seconds in plans:
            rows, cost = scripts.costs("--count", int(rate * seconds), "--rate", rate)
            tell(f"at {rate:,.0f}/s: {latencies_ms(rows)['p50']:.1f} ms (p50)")
            loads[rate].append(
                {
                    "us": {name: cost[name] - 1e6 * idle.get(name, 0.0) / rate for name in cost},
                    "batches": batches_of(rows, rate),
                    "latency_ms": latencies_ms(rows),
                    "hops_ms": hops_ms(rows),
                    "youngest": youngest_by_batch(rows),
                }
            )
    return {
        "idle_share_of_a_core": idle,
        "highest": highest,
        "calm_batches": [load["youngest"] for load in loads[calm]],
        "loads": [_load(rate, int(rate * seconds), loads[rate]) for rate, seconds in plans],
    }


def _load(rate: float, images: int, rounds: list[Row]) -> Row:
    """Put the rounds of one rate together."""
    names = ("us", "batches", "latency_ms", "hops_ms")
    p99s = [each["latency_ms"]["p99"] for each in rounds]
    of_all = {name: medians([each[name] for each in rounds]) for name in names}
    return {"rate": rate, "images": images, **of_all, "p99s_ms": p99s}


def youngest_by_batch(rows: list[Row]) -> list[tuple[float, float]]:
    """Return, in order, when the youngest image of each batch was sent (s), and its latency (ms).

    It waited for nothing but what became of the batch.
    """
    youngest: dict[str, tuple[float, float]] = {}
    for row, latency in zip(rows, latencies_of(rows), strict=True):
        sent = seconds_of(row["published_at"]) or 0.0
        batch = row["received_at"]
        youngest[batch] = max((sent, latency), youngest.get(batch, (0.0, 0.0)))
    return sorted(youngest.values())


def batches_of(rows: list[Row], rate: float) -> dict[str, float]:
    """Return how many batches each script makes for an image, and how many the broker is sent.

    Args:
        rows: what was stored.
        rate: images a second that were offered; infinite for all at once.
    """
    published = 1 / min(max(rate * GROUP_SECONDS, 1.0), GROUP_SIZE)
    received, stored = (len({row[name] for row in rows}) / len(rows) for name in SEEN)
    return {
        "app_1": published,
        "model_server_sub": received,
        "model_server_pub": received,
        "app_2": stored,
        "broker": (published + received) / 2,
    }


def hops_ms(rows: list[Row]) -> dict[str, float]:
    """Return the usual time from published to received, to predicted, to stored."""
    moments = ("published_at", "received_at", "predicted_at", "stored_at")
    times = [[seconds_of(row[name]) or 0.0 for name in moments] for row in rows]
    names = ("received", "predicted", "stored")
    return {
        name: 1e3 * middle([each[i + 1] - each[i] for each in times])
        for i, name in enumerate(names)
    }


def _by_servers(broker: Kafka, amounts: Amounts, tell: Tell) -> dict[str, Any]:
    """One server of one thread against several: CPU an image, less what they take when idle."""
    found: dict[str, list[float]] = {}
    for servers in (1, amounts.servers) * amounts.rounds:
        with tempfile.TemporaryDirectory() as folder, Pipeline(broker, Path(folder)) as pipeline:
            subs = [pipeline.sub("--threads", 1) for _ in range(servers)]
            for script in (*subs, pipeline.pub(), pipeline.app_2()):
                script.ready()
            _spent(pipeline, subs, amounts.server_images // 8)  # warm
            before = _cpu(subs)
            time.sleep(amounts.idle_seconds)
            idle = (_cpu(subs) - before) / amounts.idle_seconds
            cpu, seconds = _spent(pipeline, subs, amounts.server_images)
        found.setdefault(str(servers), []).append(
            1e6 * (cpu - idle * seconds) / amounts.server_images
        )
        tell(
            f"{servers} server(s) of one thread: {found[str(servers)][-1]:.1f} us an image in them"
        )
    one, several = (statistics.median(each) for each in found.values())
    return {"us": found, "worth": one / several, "servers": amounts.servers}


def _spent(pipeline: Pipeline, scripts: list[Script], images: int) -> tuple[float, float]:
    """Send images through; return the CPU seconds of the scripts, and the seconds it took."""
    before, stored, began = _cpu(scripts), pipeline.stored(), time.monotonic()
    pipeline.app_1("--count", images).end()
    pipeline.wait_for_rows(stored + images)
    return _cpu(scripts) - before, time.monotonic() - began


def _cpu(scripts: list[Script]) -> float:
    return cpu_seconds(each.process.pid for each in scripts)


def _membership(broker: Kafka, tell: Tell) -> dict[str, float]:
    """How long a second server takes to join, and what a killed one holds up (s)."""
    with tempfile.TemporaryDirectory() as folder, Pipeline(broker, Path(folder)) as pipeline:
        for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
            script.ready()
        flow = pipeline.app_1("--count", 30_000, "--rate", 1000)
        pipeline.wait_for_rows(1000)
        place = Path(folder, "second", "log.txt")
        started, started_at = time.monotonic(), time.time()
        second = pipeline.start("model_server_sub", "--queue", place).ready()
        ready = time.monotonic() - started
        pipeline.start("model_server_pub", "--queue", place).ready()
        wait_until(lambda: place.exists() and place.stat().st_size > 0, "it has images")
        joined = time.monotonic() - started
        pipeline.wait_for_rows(pipeline.stored() + 2000)
        held_by_join = _longest(pipeline.rows(), started_at)
        killed_at = time.time()
        second.kill()
        flow.end()
        pipeline.wait_for_rows(30_000)
        held_by_kill = _longest(pipeline.rows(), killed_at)
    tell(
        f"a server that joins has images after {joined:.1f} s; "
        f"a kill holds some up for {held_by_kill:.1f} s"
    )
    return {
        "ready_s": ready,
        "joined_s": joined,
        "held_up_by_a_join_s": held_by_join,
        "held_up_by_a_kill_s": held_by_kill,
    }


def _longest(rows: list[Row], since: float) -> float:
    """Return the largest latency of what was published since then, or in the second before (s)."""
    late = [row for row in rows if (seconds_of(row["published_at"]) or 0.0) > since - 1.0]
    return latencies_ms(late)["max"] / 1e3

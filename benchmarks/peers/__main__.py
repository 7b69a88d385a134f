"""This project beside its peers: the same images, network, Kafka and two cores, one after another.

    python -m benchmarks.peers                       all of them: about a quarter of an hour
    python -m benchmarks.peers ours plain            these
    python -m benchmarks.peers --quick               small counts: does it work here?

Each serves the bundled images by the shipped network from one topic to another, on a real, warm
Kafka that shares the cores. `app_1` feeds all; where a peer ends with the topic of results, a sink
reads it and writes a file, not durably. Ours ends in the durable DB. What a peer needs is fetched
into `.peers/` first (pip and Maven); one that cannot be had is told and left out. How each is set
up: NOTES.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import on_topics, toolbox
from benchmarks.peers.four_scripts import FourScripts
from benchmarks.peers.measure import Figures, Plan, measure, throughput, wake
from benchmarks.peers.system import System
from tests.brokers.harness import KafkaUnderTest

RESULTS = toolbox.ROOT / "benchmarks" / "results" / "peers.json"
CORES = 2
PARTITIONS = 6
WARM_UP_IMAGES = 20_000
QUICK = Plan(
    rounds=1,
    most_images=3000,
    round_seconds=1.0,
    warm_up_seconds=2.0,
    latency_seconds=3.0,
    kill_seconds=3.0,
)


@dataclass(frozen=True)
class Peer:
    """One that is measured.

    Attributes:
        title: As the table has it.
        open: Starts it on a broker, in a folder.
        fetch: What it needs that is not here: raises `PeerMissingError`.
    """

    title: str
    open: Callable[[KafkaUnderTest, Path], System]
    fetch: tuple[Callable[[], object], ...] = ()


_JAVA = (toolbox.classpath, partial(toolbox.onnx_file, "float32"))
_FASTSTREAM = (partial(toolbox.python_with, "faststream"),)
PEERS = {
    "ours": Peer("the four scripts, durable DB", FourScripts),
    "streams": Peer("Kafka Streams, at least once", on_topics.KafkaStreams, _JAVA),
    "streams_once": Peer("Kafka Streams, exactly once", on_topics.KafkaStreamsExactlyOnce, _JAVA),
    "streams_int8": Peer("Kafka Streams, int8", on_topics.KafkaStreamsInt8, _JAVA),
    "faststream": Peer("FastStream, batches", on_topics.FastStreamAsItComes, _FASTSTREAM),
    "faststream_linger": Peer("FastStream, batches, linger", on_topics.FastStream, _FASTSTREAM),
    "faststream_one": Peer("FastStream, one a call", on_topics.FastStreamOneByOne, _FASTSTREAM),
    "plain": Peer("plain confluent-kafka loop", on_topics.PlainLoop),
    "mlserver": Peer(
        "MLServer, Kafka mode", on_topics.MLServer, (partial(toolbox.python_with, "mlserver"),)
    ),
}


def tell(text: str) -> None:
    """Say how far it is."""
    print(f"  {text}", flush=True)


def fetch_all(names: list[str]) -> dict[str, str]:
    """Fetch what the peers need; return why some are missing."""
    missing = {}
    for name in names:
        try:
            for fetch in PEERS[name].fetch:
                fetch()
        except toolbox.PeerMissingError as error:
            missing[name] = str(error)
            tell(f"{PEERS[name].title} is left out: {error}")
    return missing


def start_kafka() -> tuple[KafkaUnderTest, list[int]]:
    """Start a broker with topics of `PARTITIONS`; return it and its processes."""
    broker = KafkaUnderTest()
    broker.partitions = PARTITIONS
    broker.start()
    return broker, broker.pids


def warm(broker: KafkaUnderTest, pids: list[int], images: int) -> None:
    """Let the broker compile its code, as one that has run for a while has."""
    with tempfile.TemporaryDirectory() as folder:
        system = FourScripts(broker, Path(folder))
        try:
            wake(system)
            throughput(system, pids, images)
        finally:
            system.stop()


def measured(peer: Peer, broker: KafkaUnderTest, pids: list[int], plan: Plan) -> Figures | str:
    """Measure one; a peer that fails tells why, and the others go on."""
    print(peer.title, flush=True)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        system = peer.open(broker, Path(folder))
        try:
            return measure(system, pids, plan, tell)
        except RuntimeError as error:
            logs = sorted(Path(folder).glob("*server*.log"))
            said = logs[-1].read_text(errors="replace")[-600:] if logs else ""
            tell(f"failed: {error}\n{said}")
            return str(error)
        finally:
            system.stop()


def table(figures: dict[str, Figures], missing: dict[str, str]) -> str:
    """Put the figures of all beside each other."""
    head = f"{'':30}{'images/s':>9}{'ours is':>9}{'p50 ms':>8}{'p99 ms':>8}"
    head += f"{'server':>8}{'feed':>6}{'read':>6}{'broker':>8}{'MiB':>6}{'+read':>7}"
    lines = [head + f"{'lost':>7}{'doubled':>9}{'away s':>8}"]
    ours = figures.get("ours")
    for name, each in figures.items():
        rate = each.median("images_per_second")
        ratio = f"x {ours.median('images_per_second') / rate:.2f}" if ours else ""
        latency = [f"{each.latency_ms[p]:.0f}" if each.latency_ms else "" for p in ("p50", "p99")]
        line = f"{PEERS[name].title:30}{rate:>9,.0f}{ratio:>9}{latency[0]:>8}{latency[1]:>8}"
        line += f"{each.median('server_us'):>8.0f}{each.median('publisher_us'):>6.0f}"
        line += f"{each.median('reader_us'):>6.0f}{each.median('broker_us'):>8.0f}"
        line += f"{each.server_mb:>6.0f}{each.reader_mb:>7.0f}"
        if kill := each.killed:
            away = "-" if kill.away_seconds is None else f"{kill.away_seconds:.1f}"
            line += f"{kill.lost:>7,}{kill.doubled:>9,}{away:>8}"
        lines.append(line)
    lines += [f"{PEERS[name].title:30}not measured: {why}" for name, why in missing.items()]
    lines.append("server, feed, read, broker: microseconds of one core per image.")
    lines.append("lost, doubled: images and results, of those published around a kill -9.")
    return "\n".join(lines)


def as_json(figures: dict[str, Figures], missing: dict[str, str]) -> dict[str, Any]:
    """Return all that was measured."""
    return {
        "measured": {n: {"title": PEERS[n].title, **f.as_json()} for n, f in figures.items()},
        "missing": missing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("only", nargs="*", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--quick", action="store_true", help="small counts; nothing is written")
    parser.add_argument("--rounds", type=int, help=f"default: {Plan.rounds}")
    parser.add_argument("--no-kill", action="store_true", help="leave the kills out")
    options = parser.parse_args()
    if unknown := set(options.only) - set(PEERS):
        parser.error(f"there is no peer {unknown.pop()!r}: choose of {', '.join(PEERS)}")
    plan = asdict(QUICK if options.quick else Plan())
    plan |= {"rounds": options.rounds} if options.rounds else {}
    plan |= {"kill_seconds": 0.0} if options.no_kill else {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end all that was started
    if hasattr(os, "sched_setaffinity"):  # inherited by all that is started
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    began = time.monotonic()
    names = options.only or list(PEERS)
    missing = fetch_all(names)
    figures: dict[str, Figures] = {}
    broker, pids = start_kafka()
    try:
        warm(broker, pids, 2000 if options.quick else WARM_UP_IMAGES)
        for name in (each for each in names if each not in missing):
            outcome = measured(PEERS[name], broker, pids, Plan(**plan))
            if isinstance(outcome, str):
                missing[name] = outcome
            else:
                figures[name] = outcome
    finally:
        broker.stop()
    print(f"\n{table(figures, missing)}\n{time.monotonic() - began:.0f} s")
    if not options.quick and not options.only:
        RESULTS.write_text(json.dumps(as_json(figures, missing), indent=2) + "\n")


if __name__ == "__main__":
    main()

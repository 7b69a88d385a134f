"""What is measured of a system, whatever it is."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.peers.system import Result, System
from benchmarks.peers.usage import cpu_seconds, memory_mb

# How long a JVM or an import may take before the first result.
WAKE_SECONDS = 90.0
# One probe after the other until one is answered.
PROBE_SECONDS = 1.0
LOOK_SECONDS = 0.05
# Without anything new for so long, the rest does not come.
QUIET_SECONDS = 15.0
# A member of a group that was killed is missed after 45 s where nobody has set it otherwise.
AWAY_SECONDS = 60.0
# One that stands still for a while in a round is slow, not at its end.
STALL_SECONDS = 60.0
# After the last one, for repetitions.
REPETITION_SECONDS = 3.0
# More results than there are: look until nothing new comes.
MANY = 1 << 30
# A system that answers worse than this does not run the network that is compared.
LEAST_ACCURACY = 0.99


@dataclass(frozen=True)
class Plan:
    """How much is measured; 0 leaves a part out."""

    rounds: int = 3
    most_images: int = 20_000
    round_seconds: float = 4.0
    warm_up_seconds: float = 12.0
    probe_images: int = 500
    latency_rate: float = 20.0
    latency_seconds: float = 15.0
    kill_share: float = 0.3
    kill_seconds: float = 8.0

    def images_of(self, images_per_second: float) -> int:
        """Return how many images make a round: a slow system has fewer."""
        return int(min(self.most_images, max(100, images_per_second * self.round_seconds)))


@dataclass(frozen=True)
class Round:
    """Some images, as fast as they go. CPU in microseconds an image."""

    images: int
    missing: int
    images_per_second: float
    server_us: float
    publisher_us: float
    reader_us: float
    broker_us: float


@dataclass(frozen=True)
class Killed:
    """What a SIGKILL in mid-run has cost.

    Attributes:
        images: How many were confirmed as published, before and after.
        lost: How many of them have no result.
        doubled: How many results there are beyond one of each.
        away_seconds: The longest time without any result from the kill on; None: none came.
    """

    images: int
    lost: int
    doubled: int
    away_seconds: float | None


@dataclass
class Figures:
    """All that was measured of a system."""

    seconds_until_ready: float = 0.0
    rounds: list[Round] = field(default_factory=list)
    latency_ms: dict[str, float] = field(default_factory=dict)
    server_mb: float = 0.0
    reader_mb: float = 0.0
    killed: Killed | None = None

    def median(self, name: str) -> float:
        """Return the median of the rounds."""
        return statistics.median(getattr(each, name) for each in self.rounds)

    def as_json(self) -> dict[str, object]:
        """Return all, with the medians."""
        names = ("images_per_second", "server_us", "publisher_us", "reader_us", "broker_us")
        return {**asdict(self), "median": {name: self.median(name) for name in names}}


def wake(system: System) -> float:
    """Send single images until one is answered; return the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < WAKE_SECONDS:
        system.begin(1).wait()
        if wait_for(system, 1, PROBE_SECONDS):
            wait_for(system, MANY, PROBE_SECONDS)  # the other probes' results
            return time.monotonic() - began
    raise RuntimeError(f"no result within {WAKE_SECONDS:g} s")


def wait_for(system: System, count: int, quiet_seconds: float = QUIET_SECONDS) -> list[Result]:
    """Return the next `count` results; fewer if nothing new comes for `quiet_seconds`."""
    arrived: list[Result] = []
    last = time.monotonic()
    while len(arrived) < count and time.monotonic() - last < quiet_seconds:
        if new := system.look():
            arrived += new
            last = time.monotonic()
        else:
            time.sleep(LOOK_SECONDS)
    return arrived


def throughput(system: System, broker: Sequence[int], images: int) -> Round:
    """Send images as fast as they go; from the first that is published to the last that arrives."""

    def spent() -> list[float]:
        return [cpu_seconds(pids) for pids in (system.servers(), system.readers(), broker)]

    before = spent()
    sending = system.begin(images)
    ids = set(sending.wait())
    arrived = wait_for(system, images, STALL_SECONDS)
    server, reader, broker_cpu = (
        1e6 * (b - a) / images for a, b in zip(before, spent(), strict=True)
    )
    of_this_round = [each for each in arrived if each.id in ids]
    if not of_this_round:
        raise RuntimeError(f"none of {images} images has come out")
    accuracy = sum(each.right for each in of_this_round) / len(of_this_round)
    if accuracy < LEAST_ACCURACY and len(of_this_round) > 1000:
        raise RuntimeError(f"answers are right for {accuracy:.1%} only")
    seconds = max(r.arrived for r in of_this_round) - min(r.published for r in of_this_round)
    return Round(
        images=images,
        missing=len(ids) - len({each.id for each in of_this_round}),
        images_per_second=len(of_this_round) / seconds,
        server_us=server,
        publisher_us=1e6 * sending.cpu_seconds / images,
        reader_us=reader,
        broker_us=broker_cpu,
    )


def warm_up(system: System, broker: Sequence[int], plan: Plan) -> int:
    """Send images until compilers have had their time; return how many make a round."""
    images, until = plan.probe_images, time.monotonic() + plan.warm_up_seconds
    while True:
        done = throughput(system, broker, images)
        images = plan.images_of(done.images_per_second)
        if time.monotonic() > until:
            return images


def latency_ms(system: System, rate: float, seconds: float) -> dict[str, float]:
    """Send single images in an open loop; from the intended sending to the arrival."""
    count = int(rate * seconds)
    ids = set(system.begin(count, rate).wait())
    results = [each for each in wait_for(system, count, STALL_SECONDS) if each.id in ids]
    values = [1e3 * (each.arrived - each.published) for each in results]
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": max(values)}


def killed(system: System, rate: float, seconds: float) -> Killed:
    """Kill the system in the middle of a load, start it again, and count what comes of it."""
    count = int(rate * seconds)
    sending = system.begin(count, rate)
    wait_for(system, count // 2)
    earlier = len(system.results)
    system.kill()
    at = time.time()
    system.restart()
    ids = sending.wait()
    system.look()
    missing = set(ids) - {each.id for each in system.results}
    while missing:
        quiet = max(QUIET_SECONDS, at + AWAY_SECONDS - time.time())
        if not (new := wait_for(system, 1, quiet)):
            break
        missing -= {each.id for each in new}
    wait_for(system, MANY, REPETITION_SECONDS)
    lost, doubled = account(ids, [each.id for each in system.results])
    return Killed(len(ids), lost, doubled, longest_gap(at, system.results[earlier:]))


def longest_gap(since: float, results: Iterable[Result]) -> float | None:
    """Return the longest time without a result, from `since` to the last; None without any."""
    times = [since, *sorted(each.arrived for each in results if each.arrived > since)]
    return max((b - a for a, b in pairwise(times)), default=None)


def account(sent: Iterable[str], results: Iterable[str]) -> tuple[int, int]:
    """Return how many ids have no result, and how many results there are beyond the first."""
    sent = set(sent)
    counts = Counter(each for each in results if each in sent)
    return len(sent) - len(counts), sum(counts.values()) - len(counts)


def measure(
    system: System,
    broker: Sequence[int],
    plan: Plan,
    tell: Callable[[str], None],
) -> Figures:
    """Measure all of a system that has just been started."""
    figures = Figures(seconds_until_ready=wake(system))
    tell(f"ready after {figures.seconds_until_ready:.1f} s")
    images = warm_up(system, broker, plan)
    for _ in range(plan.rounds):
        figures.rounds.append(throughput(system, broker, images))
        tell(f"{figures.rounds[-1].images_per_second:,.0f} images/s")
    figures.server_mb = memory_mb(system.servers())
    figures.reader_mb = memory_mb(system.readers())
    if plan.latency_seconds:
        figures.latency_ms = latency_ms(system, plan.latency_rate, plan.latency_seconds)
        tell("{p50:.0f} ms (p50), {p99:.0f} ms (p99) for one".format(**figures.latency_ms))
    if plan.kill_seconds:
        rate = plan.kill_share * figures.median("images_per_second")
        figures.killed = killed(system, rate, plan.kill_seconds)
        tell("killed: {lost} of {images} lost, {doubled} doubled".format(**asdict(figures.killed)))
    return figures

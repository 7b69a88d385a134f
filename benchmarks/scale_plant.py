"""A pipeline, or many of it, put together of what `benchmarks.simulation` has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import simpy

from benchmarks.simulation import (
    Consumers,
    Cost,
    Group,
    Host,
    Inbox,
    Member,
    Out,
    Sink,
    Steps,
    Topic,
    stage,
)
from Pipeline.serving.pacing import GROUP_SECONDS

# The images of a group are told apart in steps of this length (s).
TICK = 0.0005
# Where few share a core, they need not be told apart so finely (s).
FLEET_SLICE = 0.005
# Cores of the machines of a fleet: a server with its publisher, and a broker.
SERVER_CORES = 2
BROKER_CORES = 8

Costs = Mapping[str, Cost]


@dataclass(frozen=True)
class Plant:
    """How much there is of each. `cores` None: all on one host of `host_cores`.

    Attributes:
        servers: Pairs of a model server and its publisher.
        writers: `app_2`, each with its DB.
        follower_share: What copying costs a follower, of what the leader spends.
    """

    publishers: int = 1
    brokers: int = 1
    servers: int = 1
    writers: int = 1
    partitions: int = 12
    replicas: int = 1
    follower_share: float = 0.5
    one_host_cores: int | None = None


class Simulated:
    """A plant that runs."""

    def __init__(self, env: simpy.Environment, costs: Costs, plant: Plant) -> None:
        self.env, self.costs, self.plant = env, costs, plant
        self.sink = Sink(env)
        one = Host(env, plant.one_host_cores) if plant.one_host_cores else None
        parts = {
            "publishers": (plant.publishers, 1),
            "brokers": (plant.brokers, BROKER_CORES),
            "servers": (plant.servers, SERVER_CORES),
            "writers": (plant.writers, 1),
        }
        self.hosts: dict[str, list[Host]] = {
            name: [one or Host(env, cores, FLEET_SLICE) for _ in range(count)]
            for name, (count, cores) in parts.items()
        }
        brokers = self.hosts["brokers"]
        kept = (plant.partitions, plant.replicas, plant.follower_share)
        self.images = Topic(env, brokers, costs["broker_in"], *kept, seed=1)
        self.results = Topic(env, brokers, costs["broker_out"], *kept, seed=2)
        self.sources = [self._publisher(host) for host in self.hosts["publishers"]]
        self.servers = Consumers(env, self.images)
        self.writers = Consumers(env, self.results)
        for host in self.hosts["servers"]:
            env.process(self.servers.join(self.server(host)))
        for host in self.hosts["writers"]:
            writer = Member(env, host, costs["app_2"], self.sink.store)
            env.process(self.writers.join(writer))

    def server(self, host: Host) -> Member:
        """Start a server with its queue and publisher."""
        to_publish = Inbox(self.env)
        self.env.process(stage(self.env, host, self.costs["pub"], to_publish, self.results.publish))
        return Member(self.env, host, self.costs["sub"], handed_to(to_publish))

    def _publisher(self, host: Host) -> Inbox:
        source = Inbox(self.env)
        self.env.process(stage(self.env, host, self.costs["app_1"], source, self.images.publish))
        return source

    def arrivals(self, rate: float, seconds: float) -> Steps:
        """Let images come at a fixed rate, to all publishers alike, in groups as `app_1` has them.

        They are born when they were meant to be sent, `TICK` by `TICK`.
        """
        every = rate / len(self.sources)
        apart = max(1 / every, GROUP_SECONDS)
        ticks = round(apart / TICK) if apart == GROUP_SECONDS else 1
        late = 0.5 * apart / ticks if ticks > 1 else 0.0  # the middle of its tick
        due, start = 0.0, self.env.now
        while self.env.now - start < seconds - apart / 2:
            group = []
            for tick in range(ticks):
                due += apart * every / ticks
                count, due = int(due + 1e-9), due - int(due + 1e-9)
                if count:
                    born = self.env.now - (ticks - 1 - tick) * apart / ticks - late
                    group.append(Group(born, count))
            for source in self.sources:
                source.put(group)
            yield self.env.timeout(apart)

    def used(self, seconds: float) -> dict[str, float]:
        """Return the share of the cores that each part has used."""
        return {
            name: sum(host.busy for host in hosts)
            / sum(host.cores.capacity for host in hosts)
            / seconds
            for name, hosts in self.hosts.items()
        }


def handed_to(inbox: Inbox) -> Out:
    """Return an `out` that puts a batch before the next stage."""

    def out(batch: list[Group]) -> Steps:
        inbox.put(batch)
        return
        yield

    return out


def latency_of(sink: Sink, since: float = 0.0) -> dict[str, float]:
    """Return percentiles of the images that were born since then (ms)."""
    counted = [
        (now - group.born, group.count) for now, group in sink.arrived if group.born >= since
    ]
    times = np.repeat(*(np.array(each) for each in zip(*counted, strict=True)))
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50": 1e3 * p50, "p99": 1e3 * p99, "max": 1e3 * times.max()}


def highest(costs: Costs, plant: Plant, images: int) -> float:
    """Return the throughput with all images there at once."""
    env = simpy.Environment()
    simulated = Simulated(env, costs, plant)
    simulated.sources[0].put([Group(0.0, images)])
    while simulated.sink.images < images:
        env.run(until=env.now + 0.05)
    return images / simulated.sink.arrived[-1][0]


def at_rate(costs: Costs, plant: Plant, rate: float, seconds: float) -> dict[str, float]:
    """Return the latency of an open loop."""
    env = simpy.Environment()
    simulated = Simulated(env, costs, plant)
    env.process(simulated.arrivals(rate, seconds))
    env.run(until=seconds + 2.0)
    return latency_of(simulated.sink)

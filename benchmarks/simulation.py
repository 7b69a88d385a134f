"""The pipeline as discrete events: what waits where, in which batches, on which cores.

An image goes through the stages of the four scripts. A stage takes what waits for it, up to its
batch size, works on the cores of its host, which it shares with all others there, then waits
without them (a sync, a round trip), hands on, and does what nobody waits for (acknowledging,
tidying up). After a rest all takes longer: caches and cores have gone to sleep. A topic has
partitions; a broker works for each request, its followers too. Each partition belongs to one
server, which may join, leave, or be killed. What a batch costs is measured: see `benchmarks.scale`.

Images travel in groups that share a time, so that a million a second can be simulated.

Sources: SimPy (https://simpy.readthedocs.io) has the events and the cores; the laws that the tests
hold this to are those of M/D/1 queues and of Little.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import simpy

# What has had nothing to do for so long is cold (s).
REST_SECONDS = 0.02
# Where more work than there are cores, it is done in slices of this length (s), as kernels do it.
SLICE = 0.001

Steps = Generator[simpy.Event, Any, Any]


class Group(NamedTuple):
    """Images that were meant to be sent at one time (s)."""

    born: float
    count: int


@dataclass(frozen=True)
class Cost:
    """What a stage needs for a batch. Seconds.

    Attributes:
        batch: CPU, however many images.
        image: CPU for each.
        cold: More CPU for a batch that comes after a rest.
        ahead: Share of `batch` and `cold` that is spent before the batch is handed on.
        wait: Without CPU, however many: syncs, round trips, lingering.
        spread: Delays, of which one is drawn and added to each wait, as no two are alike.
        most: Images of a batch.
        threads: Cores that may share the work.
    """

    batch: float = 0.0
    image: float = 0.0
    cold: float = 0.0
    ahead: float = 1.0
    wait: float = 0.0
    spread: tuple[float, ...] = ()
    most: int = 256
    threads: int = 1

    def cpu(self, images: int) -> float:
        """Return the CPU seconds of a batch that comes after another."""
        return self.batch + self.image * images

    def before(self, rested: float) -> float:
        """Return the CPU seconds of a batch, its images aside, until it is handed on."""
        return self.ahead * self._of_batch(rested)

    def after(self, rested: float) -> float:
        """Return the CPU seconds of a batch once it is handed on."""
        return (1 - self.ahead) * self._of_batch(rested)

    def _of_batch(self, rested: float) -> float:
        return self.batch + (self.cold if rested > REST_SECONDS else 0.0)

    def drawn_wait(self, draw: random.Random) -> float:
        """Return one wait."""
        return self.wait + draw.choice(self.spread) if self.spread else self.wait


class Host:
    """Cores, shared by all that run there."""

    def __init__(self, env: simpy.Environment, cores: int, time_slice: float = SLICE) -> None:
        self.env, self.time_slice = env, time_slice
        self.cores = simpy.Resource(env, cores)
        self.busy = 0.0

    def compute(self, seconds: float, threads: int = 1) -> Steps:
        """Work so long on one core, or on several at once."""
        if threads == 1:
            yield from self._on_one_core(seconds)
            return
        share = seconds / threads
        yield self.env.all_of([self.env.process(self._on_one_core(share)) for _ in range(threads)])

    def _on_one_core(self, seconds: float) -> Steps:
        self.busy += seconds
        while seconds > 1e-12:
            with self.cores.request() as core:
                yield core
                took = min(self.time_slice, seconds)
                yield self.env.timeout(took)
                seconds -= took


class Inbox:
    """What waits: first in, first out; in portions that have an order of their own if need be."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._groups: deque[Group] = deque()
        self._news = env.event()
        self.waiting = 0

    def put(self, groups: Iterable[Group]) -> None:
        """Add some at the end, and wake whoever takes."""
        for group in groups:
            self._groups.append(group)
            self.waiting += group.count
        self.wake()

    def put_back(self, groups: list[Group]) -> None:
        """Add some at the front: they come again."""
        self._groups.extendleft(reversed(groups))
        self.waiting += sum(each.count for each in groups)
        self.wake()

    def take_now(self, most: int) -> list[Group]:
        """Take what is there, up to `most` images; a group may be parted."""
        taken: list[Group] = []
        while self._groups and most:
            group = self._groups.popleft()
            if group.count > most:
                self._groups.appendleft(Group(group.born, group.count - most))
                group = Group(group.born, most)
            taken.append(group)
            most -= group.count
            self.waiting -= group.count
        return taken

    def news(self) -> simpy.Event:
        """Return an event for the next `put`."""
        return self._news

    def wake(self) -> None:
        """Let whoever waits look."""
        news, self._news = self._news, self._env.event()
        news.succeed()


# What a stage does with a finished batch; it goes on when these steps are done.
Out = Callable[[list[Group]], Steps]


def work(
    env: simpy.Environment, host: Host, cost: Cost, rested: float, batch: list[Group], out: Out
) -> Steps:
    """Work for a batch, wait, hand it on, tidy up; `rested` for so long before it (s)."""
    yield from host.compute(cost.before(rested))
    yield from host.compute(cost.image * images_of(batch), cost.threads)
    if cost.wait:
        yield env.timeout(cost.wait)
    yield from out(batch)
    yield from host.compute(cost.after(rested))


def stage(env: simpy.Environment, host: Host, cost: Cost, inbox: Inbox, out: Out) -> Steps:
    """Take what waits and work for it, again and again."""
    done = -math.inf
    while True:
        batch = inbox.take_now(cost.most)
        if not batch:
            yield inbox.news()
            continue
        yield from work(env, host, cost, env.now - done, batch, out)
        done = env.now


def images_of(groups: Iterable[Group]) -> int:
    """Return how many images they are."""
    return sum(each.count for each in groups)


class Topic:
    """Partitions, led by brokers in turn; each follower works for what it copies."""

    def __init__(
        self,
        env: simpy.Environment,
        brokers: list[Host],
        cost: Cost,
        partitions: int,
        replicas: int = 1,
        follower_share: float = 0.5,
        seed: int = 1,
    ) -> None:
        self.env, self.brokers, self.cost, self.replicas = env, brokers, cost, replicas
        # Of what the leader works for a batch.
        self.follower_share = follower_share
        self.partitions = [Inbox(env) for _ in range(partitions)]
        self._random = random.Random(seed)
        self._last = -math.inf

    def publish(self, batch: list[Group]) -> Steps:
        """Send a batch to one partition, as clients without keys do; done when it is confirmed."""
        number = self._random.randrange(len(self.partitions))
        rested, self._last = self.env.now - self._last, self.env.now
        images = self.cost.image * images_of(batch)
        leader, *followers = (
            self.brokers[(number + i) % len(self.brokers)] for i in range(self.replicas)
        )
        before, after = self.cost.before(rested), self.cost.after(rested)
        for follower in followers:
            copying = (before + images + after) * self.follower_share
            self.env.process(follower.compute(copying))
        yield from leader.compute(before + images)
        if (wait := self.cost.drawn_wait(self._random)) > 0:
            yield self.env.timeout(wait)
        self.partitions[number].put(batch)
        self.env.process(leader.compute(after))  # a broker has threads enough


class Consumers:
    """The members of a group: whose partitions are whose, and what becomes of a lost member's."""

    def __init__(self, env: simpy.Environment, topic: Topic) -> None:
        self.env, self.topic = env, topic
        self.members: list[Member] = []
        # One rebalance after the other.
        self._turn = simpy.Resource(env)

    def join(self, member: Member, seconds: float = 0.0) -> Steps:
        """Give a member its share; what moves rests meanwhile."""
        self.members.append(member)
        yield from self._share_out(seconds)

    def kill(self, member: Member, missed_after: float, rebalance: float) -> Steps:
        """End a member; its partitions go to others once it is missed, what it had comes again."""
        self.members.remove(member)
        member.process.interrupt()
        yield self.env.timeout(missed_after)
        for partition, groups in member.unacknowledged():
            partition.put_back(groups)
        yield from self._share_out(rebalance)

    def _share_out(self, seconds: float) -> Steps:
        with self._turn.request() as turn:
            yield turn
            members, shares = list(self.members), self._sticky_shares()
            for member, share in zip(members, shares, strict=True):
                member.partitions = [each for each in member.partitions if each in share]
            if seconds:
                yield self.env.timeout(seconds)
            for member, share in zip(members, shares, strict=True):
                member.partitions = share
                member.assigned.succeed()
                member.assigned = self.env.event()

    def _sticky_shares(self) -> list[list[Inbox]]:
        """Share the partitions out evenly; each member keeps what it has, up to its share."""
        every, members = self.topic.partitions, len(self.members)
        if not members:  # who comes next takes all
            return []
        least, more = divmod(len(every), members)
        shares = [member.partitions[: least + (i < more)] for i, member in enumerate(self.members)]
        kept = {id(each) for share in shares for each in share}
        free = [each for each in every if id(each) not in kept]
        for i, share in enumerate(shares):
            while len(share) < least + (i < more):
                share.append(free.pop())
        return shares


class Member:
    """One consumer: takes from its partitions in turn, acknowledges when `out` is done."""

    def __init__(self, env: simpy.Environment, host: Host, cost: Cost, out: Out) -> None:
        self.env, self.host, self.cost, self.out = env, host, cost, out
        self.partitions: list[Inbox] = []
        self.assigned = env.event()
        self._taken: list[tuple[Inbox, list[Group]]] = []
        self.process = env.process(self._run())

    def unacknowledged(self) -> list[tuple[Inbox, list[Group]]]:
        """Return what it had taken and not acknowledged."""
        return self._taken

    def _run(self) -> Steps:
        done = -math.inf
        try:
            while True:
                batch = self._take()
                if not batch:
                    news = [each.news() for each in self.partitions]
                    yield self.env.any_of([self.assigned, *news])
                    continue
                rested = self.env.now - done
                yield from work(self.env, self.host, self.cost, rested, batch, self.out)
                self._taken, done = [], self.env.now
        except simpy.Interrupt:
            return

    def _take(self) -> list[Group]:
        most, batch = self.cost.most, []
        for partition in self.partitions:
            if most and (groups := partition.take_now(most)):
                self._taken.append((partition, groups))
                batch += groups
                most -= images_of(groups)
        # Next time another is first.
        self.partitions = self.partitions[1:] + self.partitions[:1]
        return batch


@dataclass
class Sink:
    """Where images come to rest: when each group did."""

    env: simpy.Environment
    arrived: list[tuple[float, Group]] = field(default_factory=list)

    def store(self, batch: list[Group]) -> Steps:
        """Take a batch."""
        self.arrived += [(self.env.now, each) for each in batch]
        return
        yield  # a stage's `out` is a generator

    @property
    def images(self) -> int:
        """How many have come."""
        return images_of(group for _, group in self.arrived)

"""`benchmarks.scale`: its simulation obeys the laws of queues, its costs are the measured ones."""

from __future__ import annotations

import math
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import simpy

from benchmarks import pictures, scale, scale_costs
from benchmarks.scale_plant import Plant, Simulated, latency_of
from benchmarks.simulation import (
    Consumers,
    Cost,
    Group,
    Host,
    Inbox,
    Member,
    Sink,
    Steps,
    Topic,
    images_of,
    stage,
)
from Pipeline.serving.pacing import GROUP_SECONDS

COSTS = {
    "app_1": Cost(batch=4e-4, image=1.1e-5),
    "broker_in": Cost(batch=1e-4, image=1e-5, wait=2e-3, most=1 << 30),
    "sub": Cost(batch=9e-4, image=5e-5, threads=2),
    "pub": Cost(batch=5e-4, image=1e-5),
    "broker_out": Cost(batch=1e-4, image=1e-5, wait=7e-4, most=1 << 30),
    "app_2": Cost(batch=5e-4, image=9e-6, wait=7e-4),
}


def one_by_one(env: simpy.Environment, service: float) -> tuple[Inbox, Sink]:
    inbox, sink = Inbox(env), Sink(env)
    env.process(stage(env, Host(env, 1), Cost(image=service, most=1), inbox, sink.store))
    return inbox, sink


def poisson(env: simpy.Environment, inbox: Inbox, rate: float, count: int, seed: int) -> Steps:
    draw = random.Random(seed)
    for _ in range(count):
        yield env.timeout(draw.expovariate(rate))
        inbox.put([Group(env.now, 1)])


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_core_with_equal_services_waits_as_long_as_an_m_d_1_queue(load: float) -> None:
    env, service = simpy.Environment(), 0.0007
    inbox, sink = one_by_one(env, service)
    env.process(poisson(env, inbox, load / service, 15_000, seed=7))
    env.run()
    waits = [now - group.born - service for now, group in sink.arrived]
    # Pollaczek and Khinchine, with equal services.
    expected = load * service / (2 * (1 - load))
    assert sum(waits) / len(waits) == pytest.approx(expected, rel=0.06)


def test_as_many_are_there_as_come_times_how_long_they_stay() -> None:
    env, rate, service = simpy.Environment(), 900.0, 0.001
    inbox, sink = one_by_one(env, service)
    env.process(poisson(env, inbox, rate, 5000, seed=3))
    env.run()
    came = sorted(
        [(group.born, 1) for _, group in sink.arrived] + [(t, -1) for t, _ in sink.arrived]
    )
    area = there = last = 0.0
    for moment, change in came:
        area += there * (moment - last)
        there, last = there + change, moment
    stays = [now - group.born for now, group in sink.arrived]
    assert area / env.now == pytest.approx(len(stays) / env.now * sum(stays) / len(stays))


def test_two_that_want_one_core_take_twice_as_long_and_both_progress() -> None:
    env = simpy.Environment()
    host = Host(env, 1)
    ends = []

    def work() -> Steps:
        yield from host.compute(0.1)
        ends.append(env.now)

    for _ in range(2):
        env.process(work())
    env.run()
    assert ends == pytest.approx([0.199, 0.2])
    assert host.busy == pytest.approx(0.2)


def test_threads_share_a_batch_out_to_cores() -> None:
    env = simpy.Environment()
    env.process(Host(env, 2).compute(0.1, threads=2))
    env.run()
    assert env.now == pytest.approx(0.05)


def test_a_group_is_parted_where_the_batch_is_full_and_nothing_is_lost() -> None:
    inbox = Inbox(simpy.Environment())
    inbox.put([Group(1.0, 300), Group(2.0, 10)])
    batches = [inbox.take_now(256) for _ in range(3)]
    assert batches == [[Group(1.0, 256)], [Group(1.0, 44), Group(2.0, 10)], []]
    assert inbox.waiting == 0


def test_all_that_is_sent_is_stored() -> None:
    env = simpy.Environment()
    simulated = Simulated(
        env, COSTS, Plant(servers=3, writers=2, partitions=7, brokers=2, replicas=2)
    )
    env.process(simulated.arrivals(20_000, 1.0))
    env.run(until=3.0)
    assert simulated.sink.images == pytest.approx(20_000, abs=1)
    assert all(group.born <= now for now, group in simulated.sink.arrived)


def test_a_killed_servers_images_come_again_and_none_is_lost() -> None:
    env = simpy.Environment()
    simulated = Simulated(env, COSTS, Plant(servers=3, writers=1, partitions=6))
    env.process(simulated.arrivals(30_000, 4.0))
    env.run(until=1.0)
    victim = simulated.servers.members[0]
    env.process(simulated.servers.kill(victim, missed_after=1.0, rebalance=0.1))
    env.run(until=8.0)
    stored = simulated.sink.images
    again = images_of(group for _, groups in victim.unacknowledged() for group in groups)
    assert 120_000 - 1 <= stored <= 120_000 + again
    assert latency_of(simulated.sink)["max"] == pytest.approx(1100, rel=0.3)


def test_who_joins_takes_no_more_than_its_share_and_the_others_keep_theirs() -> None:
    env = simpy.Environment()
    host = Host(env, 1)
    topic = Topic(env, [host], Cost(), partitions=7)
    group = Consumers(env, topic)
    members = [Member(env, host, Cost(), Sink(env).store) for _ in range(3)]
    had: list[list[Inbox]] = []
    for member in members:
        had = [list(each.partitions) for each in group.members]
        env.process(group.join(member))
        env.run(until=env.now + 0.001)
    owned = [each for member in members for each in member.partitions]
    assert sorted(len(member.partitions) for member in members) == [2, 2, 3]
    assert {id(each) for each in owned} == {id(each) for each in topic.partitions}
    for member, before in zip(members, had, strict=False):
        assert {id(each) for each in member.partitions} <= {id(each) for each in before}


def measured(batch: float = 1e3, image: float = 50.0) -> dict[str, Any]:
    """What would be measured if each script took so many microseconds a batch and an image."""
    names = ("app_1", "broker", "model_server_sub", "model_server_pub", "app_2")

    def load(rate: float, batches: float) -> dict[str, Any]:
        return {
            "rate": rate,
            "images": 60,
            "us": dict.fromkeys(names, batch * batches + image),
            "batches": dict.fromkeys(names, batches),
            "latency_ms": {"p50": 12.0, "p99": 14.0},
            "hops_ms": {"received": 4.0, "predicted": 1.0, "stored": 7.0},
        }

    base = {"brokers": 1, "partitions": 12, "images": 2000, "images_per_second": 6000.0}
    return {
        "cores": 2,
        "batch": 256,
        "by_cluster": [{**base, **load(math.inf, 0.004), "images": 2000}],
        "calm_batches": [[(i / 100, 8.0) for i in range(100)]],
        "loads": [load(20, 1.0), load(1000, 0.1), load(2000, 0.05)],
        "servers": {"servers": 4, "worth": 0.95},
        "membership": {"held_up_by_a_join_s": 0.2},
    }


def test_costs_of_a_batch_and_of_an_image_are_told_apart_by_the_load() -> None:
    costs = scale.costs_of(measured(batch=800, image=30))
    assert costs["sub"].batch == pytest.approx(800e-6)
    assert costs["sub"].image == pytest.approx(30e-6)
    assert costs["broker_in"].cpu(1) + costs["broker_out"].cpu(1) == pytest.approx(830e-6)


def test_what_a_single_image_takes_beyond_its_batch_is_what_it_costs_to_be_cold() -> None:
    of_all = measured(batch=800, image=30)
    of_all["loads"][0]["us"]["model_server_sub"] += 500
    assert scale.costs_of(of_all)["sub"].cold == pytest.approx(500e-6)


def test_a_hop_longer_than_its_cpu_has_a_wait_and_a_shorter_one_work_that_comes_after() -> None:
    costs = scale.costs_of(measured(batch=1900, image=100))  # hops of 4, 1 and 7 ms
    assert (costs["sub"].wait, costs["sub"].ahead) == (0.0, pytest.approx(0.5))
    assert costs["app_2"].ahead == 1.0
    assert costs["app_2"].wait == pytest.approx(7e-3 - 2e-3 - 1e-3 - 2e-3)


def test_who_comes_after_a_rest_takes_longer_and_what_is_tidied_up_holds_up_the_next() -> None:
    env = simpy.Environment()
    inbox, sink = Inbox(env), Sink(env)
    cost = Cost(batch=0.004, cold=0.002, ahead=0.5, most=1)
    env.process(stage(env, Host(env, 1), cost, inbox, sink.store))

    def arrive() -> Steps:
        inbox.put([Group(0.0, 1), Group(0.0, 1)])
        yield env.timeout(1.0)
        inbox.put([Group(1.0, 1)])

    env.process(arrive())
    env.run()
    assert [now for now, _ in sink.arrived] == pytest.approx([0.003, 0.008, 1.003])


def test_who_waits_for_one_that_is_held_up_is_not_held_up_itself() -> None:
    latencies = [8.0, 8.0, 38.0, 28.0, 18.0, 8.0, 8.0, 9.0]
    batches = [(i / 100, latency) for i, latency in enumerate(latencies)]
    spread = scale.costs_of({**measured(), "calm_batches": [batches]})["broker_in"].spread
    usual = 8.5e-3
    held_up = [max(0.0, each / 1e3 - usual) for each in (8, 8, 38, 8, 8, 8, 8, 9)]
    assert spread == pytest.approx(held_up, abs=1e-6)


def test_what_a_copy_costs_is_what_three_brokers_cost_beyond_one() -> None:
    one = measured(batch=0, image=40)
    assert scale.follower_share_of(one) == 0.5
    three = {**one["by_cluster"][0], "brokers": 3, "us": {"broker": 100}}
    assert scale.follower_share_of({"by_cluster": [*one["by_cluster"], three]}) == 0.75


def test_a_single_image_takes_as_long_as_it_was_measured_to() -> None:
    found = scale.compare(measured(), scale.costs_of(measured()))
    single = next(each for each in found if each["what"].startswith("p50 at 20/s"))
    assert single["simulated"] == pytest.approx(12.0, rel=0.1)


def test_a_plant_for_twice_the_rate_has_twice_of_all() -> None:
    (one, _), (two, _) = (scale.sized(COSTS, rate) for rate in (1e6, 2e6))
    for part in ("publishers", "servers", "writers", "brokers"):
        assert getattr(two, part) == pytest.approx(2 * getattr(one, part), abs=1)


def test_a_sized_plant_keeps_up_with_its_rate_and_the_picture_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, sums = scale.sized(COSTS, 9000)
    answer = scale.fleet(COSTS, plant, 9000, {"held_up_by_a_join_s": 0.2})
    assert answer["stored_per_sent"] == pytest.approx(1.0, abs=0.01)
    assert max(answer["used"].values()) < 0.9
    results = {
        "measured": measured(),
        "comparison": scale.compare(measured(), scale.costs_of(measured())),
        "answer": {"rate": 9000, "plant": asdict(plant), "simulated": answer, "sums": sums},
    }
    monkeypatch.setattr(pictures, "SCALE_PICTURE", tmp_path / "scale.png")
    assert pictures.scale(results).stat().st_size > 1000


def test_batches_are_counted_by_what_their_rows_share() -> None:
    rows = [{"received_at": a, "stored_at": "c"} for a in ("a", "a", "b", "b")]
    found = scale_costs.batches_of(rows, 20)
    assert found == {
        "app_1": 1.0,
        "model_server_sub": 0.5,
        "model_server_pub": 0.5,
        "app_2": 0.25,
        "broker": 0.75,
    }
    assert scale_costs.batches_of(rows, 10_000)["app_1"] == pytest.approx(1 / 80)
    assert scale_costs.batches_of(rows, math.inf)["app_1"] == 1 / 1024


def test_the_youngest_image_of_a_batch_tells_what_became_of_the_batch() -> None:
    def row(batch: str, sent: int, stored: int) -> dict[str, str]:
        start = "2026-01-01T00:00:00."
        moments = {"published_at": sent, "stored_at": stored}
        stamps = {name: f"{start}{ms:03}Z" for name, ms in moments.items()}
        return {"received_at": batch, **stamps}

    found = scale_costs.youngest_by_batch([row("b", 20, 31), row("a", 8, 17), row("a", 1, 17)])
    assert [latency for _, latency in found] == pytest.approx([9.0, 11.0], abs=0.01)


def test_a_hop_is_finer_than_the_stamps() -> None:
    names = ("published_at", "received_at", "predicted_at", "stored_at")
    rows = [
        dict(zip(names, (f"2026-01-01T00:00:00.{ms:03}Z" for ms in (0, a, a, a)), strict=True))
        for a in (2, 3, 2, 3)
    ]
    found = scale_costs.hops_ms(rows)
    expected = {"received": 2.5, "predicted": 0.0, "stored": 0.0}
    assert found == pytest.approx(expected, abs=1e-3)


def test_arrivals_come_in_groups_and_are_born_when_they_were_meant_to_be_sent() -> None:
    env = simpy.Environment()
    free = {name: Cost(most=1 << 30) for name in COSTS}
    simulated = Simulated(env, free, Plant())
    env.process(simulated.arrivals(10_000, 1.0))
    env.run(until=2.0)
    assert simulated.sink.images == 10_000
    waits = latency_of(simulated.sink)
    assert waits["p50"] == pytest.approx(1e3 * GROUP_SECONDS / 2, rel=0.1)
    assert waits["max"] <= 1e3 * GROUP_SECONDS

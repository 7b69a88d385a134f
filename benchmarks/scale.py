"""How far it scales: what is measured, a simulation fed with it, and a million images a second.

    python -m benchmarks.scale                  measure, compare, answer: about seven minutes
    python -m benchmarks.scale --simulate       compare and answer, with what was measured last
    python -m benchmarks.scale --rate 50000     answer for another rate
    python -m benchmarks.scale --quick          small counts; nothing is written

Measured: CPU an image with 1, 12 and 48 partitions and 1 and 3 brokers, with four servers of one
thread against one, by load; how long a start and a join take, and what a kill holds up. The
simulation (`benchmarks/simulation.py`) has its costs from this and from the latency of single
images, and how much longer than usual a batch sometimes takes from an eighth of the highest rate.
That it is right is shown by what it was not given: the highest throughput, and the latency at a
quarter, half and three quarters of it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import simpy

from benchmarks import scale_costs
from benchmarks.scale_plant import (
    BROKER_CORES,
    SERVER_CORES,
    Costs,
    Plant,
    Simulated,
    at_rate,
    highest,
    latency_of,
)
from benchmarks.simulation import Cost, Host, Sink

RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"
MILLION = 1_000_000.0
# A simulation is right if it is as near as this to what was measured.
TOLERANCE = 0.15
# Other work on the machine beyond this share of a core spoils the comparison.
OTHERS_CORES = 0.1
# What is under way at the end has this long (s).
AFTER_SECONDS = 2.0
# Of each core: the rest is for bursts and catching up.
USED = 0.7
REPLICAS = 3
# What one broker's disks take (bytes/s), and what a message is on them, with its attributes.
BROKER_BYTES_PER_SECOND = 150e6
IMAGE_BYTES, RESULT_BYTES, ROW_BYTES = 1300.0, 600.0, 400.0
PARTITIONS_PER_SERVER = 3
# A killed member is missed after `session.timeout.ms`.
SESSION_SECONDS = 6.0

# ---------------------------------------------------------------------- what things cost


def costs_of(measured: Mapping[str, Any]) -> dict[str, Cost]:
    """Make the stages' costs of what was measured.

    CPU: what a batch and what an image costs are fitted, for each script, to its CPU an image under
    load, as batches are smaller at lower loads: see `_fitted`. What a single image, twenty a
    second, takes beyond that is what it costs to be cold. Where the way of a single image to the
    next script took less than its CPU there, the rest is spent after it was handed on; where it
    took more, it waits.
    """
    names = ("app_1", "broker", "model_server_sub", "model_server_pub", "app_2")
    single, *loads = measured["loads"]
    fitted = {}
    for name in names:
        points = [(load["batches"][name], max(load["us"][name], 1e-9)) for load in loads]
        base = base_of(measured)
        cost = _fitted(points, (base["batches"][name], base["us"][name]))
        cold = max(0.0, 1e-6 * single["us"][name] - cost.cpu(1))
        fitted[name] = replace(cost, cold=cold, most=measured["batch"])
    # Both topics: it is sent each image twice.
    whole = fitted["broker"]
    broker = Cost(whole.batch / 2, whole.image / 2, whole.cold / 2, most=1 << 30)
    hops = {name: value / 1e3 for name, value in single["hops_ms"].items()}
    app_1, broker_in = _on_the_way(hops["received"], [fitted["app_1"], broker])
    (sub,) = _on_the_way(hops["predicted"], [fitted["model_server_sub"]])
    behind = [fitted["model_server_pub"], broker, fitted["app_2"]]
    pub, broker_out, app_2 = _on_the_way(hops["stored"], behind)
    return {
        "app_1": app_1,
        "broker_in": replace(broker_in, spread=_hiccups(measured)),
        "sub": replace(sub, threads=measured["cores"]),
        "pub": pub,
        "broker_out": broker_out,
        "app_2": app_2,
    }


def _on_the_way(hop: float, costs: list[Cost]) -> list[Cost]:
    """Part what a single image needs for a hop (s) into CPU and a wait at its last stage."""
    cpu = sum(cost.cpu(1) + cost.cold for cost in costs)
    ahead = min(1.0, hop / cpu)
    *others, last = (replace(cost, ahead=ahead) for cost in costs)
    return [*others, replace(last, wait=hop - ahead * cpu)]


def _hiccups(measured: Mapping[str, Any]) -> tuple[float, ...]:
    """Return how long each batch of the calmest load was held up beyond what is usual (s).

    One that comes while the one before is still held up waits for it, which the simulation does by
    itself, so that is taken off.
    """
    rounds: list[list[tuple[float, float]]] = measured["calm_batches"]
    usual = statistics.median(latency for batches in rounds for _, latency in batches)
    found = []
    for batches in rounds:
        held, last = 0.0, -math.inf
        for sent, latency in batches:
            left = max(0.0, held - (sent - last))
            held, last = max(0.0, (latency - usual) / 1e3), sent
            found.append(max(0.0, held - left))
    return tuple(found)


def base_of(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured as fast as it goes, on the cluster of all other measurements."""
    clusters: list[dict[str, Any]] = measured["by_cluster"]
    return next(
        each for each in clusters if (each["brokers"], each["partitions"]) == scale_costs.BASE
    )


def follower_share_of(measured: Mapping[str, Any]) -> float:
    """Return what a copy costs, of what the leader spends: three brokers against one."""
    us = {(each["brokers"], each["partitions"]): each["us"] for each in measured["by_cluster"]}
    one, three = us[scale_costs.BASE], us.get((REPLICAS, scale_costs.BASE[1]))
    if three is None:
        return 0.5
    return max(0.0, three["broker"] / one["broker"] - 1) / (REPLICAS - 1)


def _fitted(loads: list[tuple[float, float]], highest: tuple[float, float]) -> Cost:
    """Fit microseconds an image = image + batch x (batches an image).

    What is measured as fast as it goes is met, being of the most images; the loads are met as well
    as one straight line from there can, each as near as any other.
    """
    most_batches, most = highest
    rises = [(batches - most_batches, us - most, us) for batches, us in loads]
    batch = sum(x * y / us**2 for x, y, us in rises) / sum((x / us) ** 2 for x, _, us in rises)
    batch = max(0.0, batch)
    image = max(0.0, most - batch * most_batches)
    return Cost(batch=1e-6 * batch, image=1e-6 * image)


# ---------------------------------------------------------------------- is it right?


def compare(measured: Mapping[str, Any], costs: Costs) -> list[dict[str, Any]]:
    """Put what is simulated beside what was measured."""
    plant = Plant(one_host_cores=measured["cores"])
    base = base_of(measured)
    found = [
        ("highest, images/s", base["images_per_second"], highest(costs, plant, base["images"])),
    ]
    single, _calm, *others = measured["loads"]
    for load in (single, *others):
        simulated = at_rate(costs, plant, load["rate"], load["images"] / load["rate"])
        for each in ("p50", "p99"):
            name = f"{each} at {load['rate']:,.0f}/s, ms"
            found.append((name, load["latency_ms"][each], simulated[each]))
    return [{"what": name, "measured": a, "simulated": b, "off": b / a - 1} for name, a, b in found]


# ---------------------------------------------------------------------- how much for a rate?


def sized(costs: Costs, rate: float, follower_share: float = 0.5) -> tuple[Plant, dict[str, float]]:
    """Return the plant for a rate, each part of it used to `USED`, and its sums.

    A process is bound by its loop, not by its CPU alone: who publishes waits for the confirmation.
    """
    most = costs["app_1"].most
    broker_in, broker_out = (_seconds(costs[name], most) for name in ("broker_in", "broker_out"))
    loops = {
        "app_1": _seconds(costs["app_1"], most) + broker_in,
        "sub": _seconds(costs["sub"], most),
        "pub": _seconds(costs["pub"], most) + broker_out,
        "app_2": _seconds(costs["app_2"], most),
    }
    processes = {name: rate * seconds / most / USED for name, seconds in loops.items()}
    cores = {name: rate * costs[name].cpu(most) / most / USED for name in loops}
    brokers_cpu = sum(costs[name].cpu(most) for name in ("broker_in", "broker_out")) / most
    broker_cores = rate * brokers_cpu * (1 + (REPLICAS - 1) * follower_share) / USED
    written = rate * (IMAGE_BYTES + RESULT_BYTES) * REPLICAS
    by_cpu, by_disk = broker_cores / BROKER_CORES, written / BROKER_BYTES_PER_SECOND
    serving = cores["sub"] + cores["pub"]
    servers = math.ceil(max(processes["sub"], processes["pub"], serving / SERVER_CORES))
    plant = Plant(
        publishers=math.ceil(processes["app_1"]),
        brokers=max(REPLICAS, math.ceil(by_cpu), math.ceil(by_disk)),
        servers=servers,
        writers=math.ceil(processes["app_2"]),
        partitions=PARTITIONS_PER_SERVER * servers,
        replicas=REPLICAS,
        follower_share=follower_share,
    )
    return plant, {
        "cores that publish": cores["app_1"],
        "cores that serve": serving,
        "cores of brokers": broker_cores,
        "cores that store": cores["app_2"],
        "a copy costs a broker, % of it": 100 * follower_share,
        "brokers, by CPU": by_cpu,
        "brokers, by disk": by_disk,
        "rows a second": rate,
        "MB a second into DBs": rate * ROW_BYTES / 1e6,
        "MB a second onto brokers' disks": written / 1e6,
    }


def _seconds(cost: Cost, images: int) -> float:
    """Return how long a stage takes for a batch."""
    return cost.cpu(images) / cost.threads + cost.wait


def fleet(
    costs: Costs, plant: Plant, rate: float, membership: Mapping[str, float]
) -> dict[str, Any]:
    """Simulate a plant at its rate: quiet, then one server killed, another come in its place."""
    pause = membership["held_up_by_a_join_s"]
    quiet, killed_at = 0.5, 1.5
    joined_at = killed_at + SESSION_SECONDS + pause + 1.0
    end = joined_at + pause + 1.0
    env = simpy.Environment()
    simulated = Simulated(env, costs, plant)
    env.process(simulated.arrivals(rate, end))
    env.run(until=killed_at)
    used = simulated.used(killed_at)
    steady = latency_of(simulated.sink, quiet)
    victim = simulated.servers.members[0]
    env.process(simulated.servers.kill(victim, SESSION_SECONDS, pause))
    env.run(until=joined_at)
    newcomer = simulated.server(Host(env, SERVER_CORES))
    env.process(simulated.servers.join(newcomer, pause))
    env.run(until=end + AFTER_SECONDS)
    sent = rate * end
    return {
        "latency_ms": steady,
        "used": used,
        "stored_per_sent": simulated.sink.images / sent,
        "killed_latency_ms": latency_of(simulated.sink, killed_at),
        "worst_by_tenth_s": _worst(simulated.sink, killed_at, end),
    }


def _worst(sink: Sink, since: float, until: float) -> list[float]:
    """Return the largest latency of each tenth of a second of arrival (s)."""
    worst = [0.0] * math.ceil((until + AFTER_SECONDS - since) * 10)
    for now, group in sink.arrived:
        if now >= since:
            i = min(len(worst) - 1, int((now - since) * 10))
            worst[i] = max(worst[i], now - group.born)
    return worst


# ---------------------------------------------------------------------- the command


def show(results: Mapping[str, Any]) -> None:
    """Print all."""
    print(f"\n{'brokers':>8}{'partitions':>12}{'images/s':>10}  microseconds of CPU an image")
    for each in results["measured"]["by_cluster"]:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in each["us"].items())
        head = f"{each['brokers']:>8}{each['partitions']:>12}{each['images_per_second']:>10,.0f}"
        print(f"{head}  {parts}")
    others = max(each["others_cores"] for each in results["measured"]["by_cluster"])
    if others > OTHERS_CORES:
        print(f"\nother programs had {others:.1f} of the cores: measure again on an idle machine")
    servers = results["measured"]["servers"]
    print(
        f"\n{servers['servers']} servers of one thread are worth {servers['worth']:.2f} of as many "
        "cores, by CPU an image in them"
    )
    for name, value in results["measured"]["membership"].items():
        print(f"  {name:<28} {value:8.2f}")
    print(f"\n{'':36}{'measured':>10}{'simulated':>11}{'off':>7}")
    for each in results["comparison"]:
        mark = "" if abs(each["off"]) <= TOLERANCE else "  beyond 15 %"
        line = f"{each['what']:36}{each['measured']:>10,.1f}{each['simulated']:>11,.1f}"
        print(f"{line}{each['off']:>7.0%}{mark}")
    answer = results["answer"]
    print(f"\nfor {answer['rate']:,.0f} images/s")
    for group in ("plant", "sums"):
        for name, value in answer[group].items():
            if name not in ("follower_share", "one_host_cores"):
                print(f"  {name:<34} {value:>18,.0f}")
    run = answer["simulated"]
    print("  used:  " + "  ".join(f"{name} {value:.0%}" for name, value in run["used"].items()))
    print("  {p50:.0f} ms (p50), {p99:.0f} ms (p99)".format(**run["latency_ms"]))
    print(
        "  one server killed: {p99:.0f} ms (p99), {max:,.0f} ms at most".format(
            **run["killed_latency_ms"]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--simulate", action="store_true", help="with what was measured last")
    parser.add_argument("--rate", type=float, default=MILLION, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small counts; nothing is written")
    options = parser.parse_args()
    if options.simulate:
        measured = json.loads(RESULTS.read_text())["measured"]
    else:
        amounts = scale_costs.QUICK if options.quick else scale_costs.Amounts()
        measured = scale_costs.measure(amounts, lambda text: print(text, flush=True))
    costs = costs_of(measured)
    of_fleet = {**costs, "sub": replace(costs["sub"], threads=SERVER_CORES)}
    plant, sums = sized(of_fleet, options.rate, follower_share_of(measured))
    results = {
        "measured": measured,
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "comparison": compare(measured, costs),
        "answer": {
            "rate": options.rate,
            "plant": asdict(plant),
            "sums": sums,
            "simulated": fleet(of_fleet, plant, options.rate, measured["membership"]),
        },
    }
    show(results)
    if not options.quick and options.rate == MILLION:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""`make bench-check`: is this commit slower than another one?

    python -m benchmarks.check                       against where this branch left main, or HEAD~1
    python -m benchmarks.check --against 3368b85
    python -m benchmarks.check queue db              these probes alone

The other commit is checked out into a folder of its own. The two take turns, probe by probe, each
first in every other round, and what counts is the median of the rounds' ratios: so the machine may
have other work. Costs are CPU time, of all threads and processes that a probe starts. What looks
slower has more rounds before it is said. Exit code 1: something became slower by more than 5 %.

A commit measures itself, with its own `benchmarks/probes.py`; one from before that file gets the
first there was, which knows the interfaces of that time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.probes import PROBES, Cost, Costs
from tests.brokers.harness import BROKERS, BrokerUnderTest
from tests.brokers.kafka_jars import KafkaMissingError, fetch_jars

ROOT = Path(__file__).resolve().parent.parent
PROBES_FILE = Path("benchmarks", "probes.py")
MAIN_BRANCH = "main"

# A change that counts.
TOLERANCE = 0.05
# Three rounds of all take three to five minutes. On a machine with other work some of their medians
# are off by more than the tolerance: what looks slower goes on, until it does not.
ROUNDS = 3
MORE_ROUNDS = 3
# What waits instead of working shows here only. Others' work does too, so it takes more of it.
SLOWNESS_TOLERANCE = 0.3
# These probes are named as the broker that they need, one for both commits.
ON_A_BROKER = ("local", "kafka")

# Runs a probe in one of the two trees.
Measure = Callable[[str, Path], Costs]


@dataclass
class Comparison:
    """One piece of work in both commits, round by round."""

    before: list[Cost] = field(default_factory=list)
    now: list[Cost] = field(default_factory=list)

    @property
    def cpu_ratio(self) -> float:
        """CPU time a unit now, as a multiple of before."""
        return self._ratio(lambda cost: cost.cpu_seconds / cost.units)

    @property
    def time_ratio(self) -> float:
        """Time a unit now, as a multiple of before."""
        return self._ratio(lambda cost: cost.seconds / cost.units)

    @property
    def slower(self) -> bool:
        """Whether it became slower by more than noise."""
        return self.cpu_ratio > 1 + TOLERANCE or self.time_ratio > 1 + SLOWNESS_TOLERANCE

    def _ratio(self, of: Callable[[Cost], float]) -> float:
        pairs = zip(self.before, self.now, strict=True)
        return statistics.median(of(now) / of(before) for before, now in pairs)

    def line(self, name: str) -> str:
        """Show it to a person."""
        before, now = (
            1e6 * statistics.median(cost.cpu_seconds / cost.units for cost in costs)
            for costs in (self.before, self.now)
        )
        verdict = "  SLOWER" if self.slower else ""
        return (
            f"{name:32} {before:9.2f} {now:9.2f} {self.cpu_ratio:8.3f} {self.time_ratio:8.3f}"
            f"{verdict}"
        )


def compare(
    probe: str, before: Path, now: Path, rounds: int, measure: Measure
) -> dict[str, Comparison]:
    """Let both take turns; what looks slower has up to `MORE_ROUNDS` times the rounds."""
    found: dict[str, Comparison] = {}
    for number in range(MORE_ROUNDS * rounds):
        if number >= rounds and not any(each.slower for each in found.values()):
            break
        _add_a_round(found, probe, (before, now), measure, now_first=number % 2 == 0)
    return found


def _add_a_round(
    found: dict[str, Comparison],
    probe: str,
    trees: tuple[Path, Path],
    measure: Measure,
    *,
    now_first: bool,
) -> None:
    costs = {tree: measure(probe, tree) for tree in (reversed(trees) if now_first else trees)}
    before, now = (costs[tree] for tree in trees)
    for name in (each for each in before if each in now):
        comparison = found.setdefault(name, Comparison())
        comparison.before.append(before[name])
        comparison.now.append(now[name])


# ---------------------------------------------------------------------- the two trees


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Check a commit out into a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        tree = Path(folder, "before")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            if not (tree / PROBES_FILE).exists():
                (tree / PROBES_FILE).write_text(first_probes())
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def first_probes() -> str:
    """Return the first version of the probes."""
    added = _git("log", "--diff-filter=A", "--format=%H", "--", str(PROBES_FILE)).split()
    return _git("show", f"{added[-1]}:{PROBES_FILE}")


def default_commit() -> str:
    """Return where this branch left main; on main itself, the commit before."""
    head, fork = _git("rev-parse", "HEAD"), ""
    if _git("branch", "--list", MAIN_BRANCH):
        fork = _git("merge-base", "HEAD", MAIN_BRANCH)
    return fork if fork not in ("", head) else "HEAD~1"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


# ---------------------------------------------------------------------- running the probes


@contextmanager
def brokers_for(probes: Sequence[str]) -> Iterator[dict[str, BrokerUnderTest]]:
    """Start what the probes need, for both commits; say what is not there."""
    running: dict[str, BrokerUnderTest] = {}
    with contextlib.ExitStack() as stack:
        for name in (each for each in ON_A_BROKER if each in probes):
            if name == "kafka":
                try:
                    fetch_jars()
                except KafkaMissingError as error:
                    print(f"kafka is left out: {error}", flush=True)
                    continue
            running[name] = stack.enter_context(BROKERS[name]())
        yield running


def measure_with(brokers: dict[str, BrokerUnderTest]) -> Measure:
    """Run probes as processes of their own, on these brokers."""

    def measure(probe: str, tree: Path) -> Costs:
        command = [sys.executable, "-m", "benchmarks.probes", probe]
        environment = dict(os.environ)
        if (broker := brokers.get(probe)) is not None:
            command += ["--config-dir", str(broker.config_dir)]
            environment |= broker.environment
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{probe} failed in {tree}:\n{done.stderr}")
        costs = json.loads(done.stdout.splitlines()[-1])
        return {name: Cost(*cost) for name, cost in costs.items()}

    return measure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("probes", nargs="*", metavar="PROBE", help=", ".join(PROBES))
    parser.add_argument("--against", metavar="COMMIT", help="default: where this branch left main")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if unknown := {*options.probes} - {*PROBES}:
        parser.error(f"there is no probe {unknown.pop()!r}: choose of {', '.join(PROBES)}")
    commit = options.against or default_commit()
    probes = options.probes or list(PROBES)
    began = time.monotonic()
    slower = []
    with checked_out(commit) as before, brokers_for(probes) as brokers:
        measure = measure_with(brokers)
        print(f"{'CPU us a unit':32} {'before':>9} {'now':>9} {'ratio':>8} {'time':>8}", flush=True)
        for probe in (each for each in probes if each not in ON_A_BROKER or each in brokers):
            compared = compare(probe, before, ROOT, options.rounds, measure)
            slower += [name for name, comparison in compared.items() if comparison.slower]
            for name, comparison in compared.items():
                print(comparison.line(name), flush=True)
    against = _git("log", "-1", "--format=%h %s", commit)
    print(f"{time.monotonic() - began:.0f} s, against {against}")
    print(f"slower: {', '.join(slower)}" if slower else "nothing became slower")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.peers`: what it counts as lost, doubled and away, and what it says then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pictures
from benchmarks.peers import __main__ as peers
from benchmarks.peers import measure, toolbox
from benchmarks.peers.measure import Figures, Killed, Plan, Round, account, longest_gap
from benchmarks.peers.system import GrowingFile, Result, System


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Fake(System):
    """Publishes at once; answers a tenth of what waits at each look, and is killed as it is told.

    After a kill it begins `repeats` images earlier, or `skips` later, `away` seconds afterwards.
    """

    def __init__(
        self,
        clock: FakeTime,
        repeats: int = 0,
        skips: int = 0,
        away: float = 0.0,
        wrong: bool = False,
    ) -> None:
        super().__init__(Path("none"))
        self.clock, self.repeats, self.skips, self.away = clock, repeats, skips, away
        self.wrong = wrong
        self.ids: list[str] = []
        self.next = 0
        self.up_at = 0.0

    def begin(self, count: int, rate: float | None = None) -> Any:
        new = [str(len(self.ids) + i) for i in range(count)]
        self.ids += new

        class Sent:
            cpu_seconds = 0.5

            def wait(self) -> list[str]:
                return new

        return Sent()

    def _new_results(self) -> Iterator[Result]:
        if self.clock.now < self.up_at:
            return
        last = min(len(self.ids), self.next + max(1, len(self.ids) // 10))
        for each in self.ids[self.next : last]:
            yield Result(each, 1000.0, self.clock.now + 1.0, not self.wrong)
        self.next = last

    def kill(self) -> None:
        self.next += self.skips - self.repeats

    def restart(self) -> None:
        self.up_at = self.clock.now + self.away

    def publisher(self, count: int, rate: float | None) -> Any:
        raise NotImplementedError

    def servers(self) -> list[int]:
        return []

    def readers(self) -> list[int]:
        return []

    def stop(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(measure, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("results", "lost", "doubled"),
    [("abc", 0, 0), ("ab", 1, 0), ("abcc", 0, 1), ("aaab", 1, 2), ("abcx", 0, 0), ("", 3, 0)],
)
def test_an_image_is_lost_without_a_result_and_doubled_with_more_than_one(
    results: str, lost: int, doubled: int
) -> None:
    assert account("abc", results) == (lost, doubled)


@pytest.mark.parametrize(("repeats", "skips", "away"), [(0, 0, 0.0), (30, 0, 45.0), (0, 20, 10.0)])
def test_a_kill_is_accounted_for_however_late_the_system_comes_back(
    clock: FakeTime, repeats: int, skips: int, away: float
) -> None:
    outcome = measure.killed(Fake(clock, repeats, skips, away), rate=100, seconds=5)
    assert (outcome.images, outcome.lost, outcome.doubled) == (500, skips, repeats)
    assert outcome.away_seconds >= away


def test_away_is_the_longest_time_without_a_result_from_the_kill_on() -> None:
    arrived = [Result("a", 0.0, at, True) for at in (9.0, 10.1, 55.0, 55.5)]
    assert longest_gap(10.0, arrived) == pytest.approx(44.9)
    assert longest_gap(60.0, arrived) is None


def test_throughput_is_from_the_first_published_to_the_last_that_arrived(clock: FakeTime) -> None:
    found = measure.throughput(Fake(clock), [], 100)
    assert (found.images, found.missing) == (100, 0)
    assert found.publisher_us == pytest.approx(5000)
    assert found.images_per_second == pytest.approx(100 / (clock.now + 1.0 - 1000.0))


def test_a_peer_that_answers_wrongly_is_not_compared(clock: FakeTime) -> None:
    with pytest.raises(RuntimeError, match=r"right for 0\.0%"):
        measure.throughput(Fake(clock, wrong=True), [], 2000)


def test_a_slow_system_has_smaller_rounds() -> None:
    plan = Plan(most_images=20_000, round_seconds=4.0)
    assert [plan.images_of(rate) for rate in (1.0, 500.0, 100_000.0)] == [100, 2000, 20_000]


def test_only_whole_lines_of_a_growing_file_are_read(tmp_path: Path) -> None:
    growing = GrowingFile(tmp_path / "results")
    assert growing.lines() == []
    growing.path.write_bytes(b"one\ntw")
    assert growing.lines() == [b"one"]
    growing.path.write_bytes(b"one\ntwo\n")
    assert growing.lines() == [b"two"]


def figures(rate: float, kill: Killed | None) -> Figures:
    return Figures(
        rounds=[Round(100, 0, rate, 50.0, 10.0, 5.0, 20.0)],
        latency_ms={"p50": 7.0, "p99": 9.0, "max": 11.0},
        killed=kill,
    )


def test_the_table_has_all_that_were_measured_and_says_why_others_were_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"ours": figures(9000, Killed(10, 0, 0, 6.0)), "plain": figures(3000, None)}
    missing = {"mlserver": "pip failed"}
    shown = peers.table(measured, missing)
    assert "x 3.00" in shown
    assert "MLServer, Kafka mode          not measured: pip failed" in shown
    monkeypatch.setattr(pictures, "RESULTS", tmp_path)
    assert pictures.peers(peers.as_json(measured, missing)).stat().st_size > 1000


def test_what_cannot_be_fetched_costs_that_peer_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise toolbox.PeerMissingError("javac not found")

    monkeypatch.setitem(peers.PEERS, "streams", peers.Peer("Streams", lambda *_: None, (fail,)))
    assert peers.fetch_all(["ours", "streams"]) == {"streams": "javac not found"}
    assert "Streams is left out: javac not found" in capsys.readouterr().out

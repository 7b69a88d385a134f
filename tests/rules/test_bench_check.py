"""`make bench-check`: what it calls slower, and what it says then."""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from benchmarks import check
from benchmarks.probes import Cost, Costs

BEFORE, NOW = Path("before"), Path("now")


class Trees:
    """Two trees in which each probe costs so much, in CPU and in time."""

    def __init__(self, now: Costs) -> None:
        self.now = now
        self.order: list[Path] = []

    def measure(self, probe: str, tree: Path) -> Costs:
        self.order.append(tree)
        if tree == BEFORE:
            return {name: Cost(10, 1.0, 2.0) for name in self.now}
        return self.now


def compared(now: Costs, rounds: int = 3) -> tuple[dict[str, check.Comparison], Trees]:
    trees = Trees(now)
    return check.compare("queue", BEFORE, NOW, rounds, trees.measure), trees


@pytest.mark.parametrize(
    ("cost", "slower"),
    [
        (Cost(10, 1.0, 2.0), False),
        (Cost(10, 1.04, 2.0), False),
        (Cost(10, 1.06, 2.0), True),
        (Cost(20, 2.0, 4.0), False),  # twice as much work
        (Cost(10, 0.5, 3.0), True),  # it waits now
        (Cost(10, 0.5, 1.0), False),
    ],
)
def test_slower_is_more_than_five_per_cent_of_cpu_or_much_waiting(cost: Cost, slower: bool) -> None:
    found, _ = compared({"put": cost})
    assert found["put"].slower == slower
    assert ("SLOWER" in found["put"].line("put")) == slower


def test_the_two_take_turns_and_each_is_first_in_every_other_round() -> None:
    _, trees = compared({"put": Cost(10, 1.0, 2.0)}, rounds=2)
    assert trees.order == [NOW, BEFORE, BEFORE, NOW]


def test_what_looks_slower_has_more_rounds() -> None:
    _, trees = compared({"put": Cost(10, 1.5, 2.0), "take": Cost(10, 1.0, 2.0)}, rounds=2)
    assert Counter(trees.order) == {NOW: 2 * check.MORE_ROUNDS, BEFORE: 2 * check.MORE_ROUNDS}


def test_what_only_one_commit_has_is_not_compared() -> None:
    def measure(_probe: str, tree: Path) -> Costs:
        names = ("put", "old") if tree == BEFORE else ("put", "new")
        return {name: Cost(10, 1.0, 2.0) for name in names}

    assert [*check.compare("queue", BEFORE, NOW, 1, measure)] == ["put"]


@pytest.mark.parametrize(("cpu_seconds", "code"), [(1.0, 0), (1.5, 1)])
def test_its_exit_code_says_whether_something_became_slower(
    cpu_seconds: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def checked_out(_commit: str):
        yield BEFORE

    trees = Trees({"put": Cost(10, cpu_seconds, 2.0)})
    monkeypatch.setattr(check, "checked_out", checked_out)
    monkeypatch.setattr(check, "brokers_for", lambda _probes: nullcontext({}))
    monkeypatch.setattr(check, "measure_with", lambda _brokers: trees.measure)
    monkeypatch.setattr(check, "_git", lambda *_arguments: "1234567 a commit")

    assert check.main(["queue", "--against", "1234567"]) == code
    said = capsys.readouterr().out
    assert ("slower: put" if code else "nothing became slower") in said


def test_a_commit_from_before_the_probes_gets_the_first_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        me = ("-c", "user.name=me", "-c", "user.email=me@localhost")
        subprocess.run(["git", *me, *arguments], cwd=tmp_path, check=True, capture_output=True)

    probes = tmp_path / check.PROBES_FILE
    probes.parent.mkdir()
    (probes.parent / "__init__.py").touch()
    git("init")
    git("add", ".")
    git("commit", "--message", "before")
    for text in ("first", "second"):
        probes.write_text(text)
        git("add", ".")
        git("commit", "--message", text)
    monkeypatch.setattr(check, "ROOT", tmp_path)

    with check.checked_out("HEAD~2") as before, check.checked_out("HEAD") as now:
        assert (before / check.PROBES_FILE).read_text() == "first"
        assert (now / check.PROBES_FILE).read_text() == "second"
    assert not before.exists()


def test_a_probe_measures_this_commit(tmp_path: Path) -> None:
    costs = check.measure_with({})("predict", check.ROOT)
    assert {*costs} == {"prepare", "predict"}
    assert all(cost.units > 0 and cost.cpu_seconds > 0 for cost in costs.values())

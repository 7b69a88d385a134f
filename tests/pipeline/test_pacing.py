"""Which images `app_1.py` sends when: Pipeline/serving/pacing.py."""

from __future__ import annotations

import itertools
import time

import pytest

from Pipeline.serving.image_source import ImageSource
from Pipeline.serving.pacing import GROUP_SECONDS, GROUP_SIZE, paced_groups
from Pipeline.stop import Stop


class Clock(Stop):
    """Time that passes only where something waits, or `works`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> bool:
        self.now += max(0.0, seconds) + 1e-9
        return False

    def works(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_images_that_are_due_one_by_one_wait_for_nobody(clock: Clock) -> None:
    groups = paced_groups(ImageSource([], 20), 100.0, clock)
    moments = [(round(clock.now, 6), len(group)) for group in groups]
    assert moments == [(round(0.01 * number, 6), 1) for number in range(20)]


def test_those_that_come_closer_together_go_in_groups(clock: Clock) -> None:
    groups = paced_groups(ImageSource([], 2001), 10_000.0, clock)
    moments = [(clock.now, len(group)) for group in groups]
    assert sum(size for _, size in moments) == 2001
    apart = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(moments)]
    assert apart[:-1] == pytest.approx([GROUP_SECONDS] * (len(apart) - 1), rel=1e-3)
    assert moments[-1][0] == pytest.approx(0.2, abs=2 * GROUP_SECONDS)


def test_what_became_due_while_the_broker_was_slow_goes_at_once(clock: Clock) -> None:
    groups = paced_groups(ImageSource([], 30_001), 10_000.0, clock)
    next(groups)
    next(groups)
    clock.works(1.0)
    behind = clock.now
    sizes = [len(next(groups)) for _ in range(9)]
    assert sizes == [GROUP_SIZE] * 9
    assert clock.now == pytest.approx(behind, abs=1e-6)


def test_a_rate_beyond_what_a_group_holds_is_kept(clock: Clock) -> None:
    count, rate = 500_001, 1e6
    assert sum(len(group) for group in paced_groups(ImageSource([], count), rate, clock)) == count
    assert clock.now == pytest.approx(count / rate, abs=2 * GROUP_SECONDS)

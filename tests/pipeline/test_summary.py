"""The rate in a script's last line."""

from __future__ import annotations

import re

import pytest

from Pipeline.tally import Tally
from tests.pipeline.runner import Clock, Pipeline


def test_the_first_batch_takes_time_as_all_others_do() -> None:
    clock = Clock()
    tally = Tally(clock)
    for _ in range(2):
        tally.begin()
        clock.now += 1.0
        tally.add(100)
    clock.now += 3600.0  # nothing comes any more
    tally.add(0)
    assert tally.rate == ", 100/s"


def test_a_single_batch_has_a_rate_and_nothing_has_none() -> None:
    clock = Clock()
    tally = Tally(clock)
    assert tally.rate == ""
    tally.begin()
    clock.now += 2.0
    assert tally.rate == ""
    tally.add(100)
    assert tally.rate == ", 50/s"


def test_a_rate_below_one_is_not_told_as_none() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.begin()
    clock.now += 8.0
    tally.add(3)
    assert tally.rate == ", 0.38/s"


# Of two microseconds an image; one batch alone is quick, not that quick.
MOST_A_SECOND = 500_000


@pytest.mark.parametrize("count", [50, 257])
def test_no_script_claims_a_rate_that_it_did_not_have(pipeline: Pipeline, count: int) -> None:
    lines = [pipeline.app_1("--count", count).end()]
    lines += [start("--exit-when-idle", 1).end() for start in (pipeline.sub, pipeline.pub)]
    lines.append(pipeline.app_2("--exit-when-idle", 1).end())
    for line in lines:
        rate = re.search(r", ([\d,.]+)/s", line)
        assert rate, line
        assert float(rate[1].replace(",", "")) < MOST_A_SECOND, line

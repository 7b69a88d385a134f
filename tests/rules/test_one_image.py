"""The benchmark of single images: what it makes of times of whole milliseconds."""

from __future__ import annotations

import random
import statistics

import pytest

from benchmarks.one_image import RATE, spread


@pytest.mark.parametrize("latency", [3.1, 4.0, 4.45, 4.5, 5.9])
def test_the_median_is_found_between_whole_milliseconds(latency: float) -> None:
    chance = random.Random(1)
    measured = []
    for number in range(300):
        sent = 0.7 + 1e3 * number / RATE
        stored = sent + latency + chance.uniform(-0.8, 0.8)
        measured.append(float(int(stored) - int(sent)))
    assert statistics.median(spread(measured)) == pytest.approx(latency, abs=0.2)

"""What stands at a share of many values, and in their middle."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def middle(values: Sequence[float]) -> float:
    """Return the mean of the middle half: as robust as the median, but finer than its steps.

    The times of a result are of whole milliseconds.
    """
    inner = sorted(values)[len(values) // 4 : len(values) - len(values) // 4]
    return statistics.fmean(inner)


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each number over all rounds."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}

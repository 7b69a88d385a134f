"""A shadow model against the served one: how often they agree, which is right, how fast they are.

The answers of shadows are held in memory, by id; the results are read once beside them. What is
compared are the ids for which both have an answer: the coverage says how many those are.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from DB.database_interface import ResultDatabase
from DB.results import Result, answer_of
from DurableText.moments import seconds_of
from DurableText.program.wording import brief, counted
from DurableText.progress import Advance, uncounted

# Answers of a shadow that are held, 300 bytes each with their ids; what comes beyond is told.
MAX_ANSWERS = 2_000_000

# Pairs of labels that are told.
PAIRS_SHOWN = 10

# Up to so many differences the sign test is exact; beyond, the normal law is within 1 %.
EXACT_UP_TO = 1000

# Latencies that are held, each a number.
MAX_LATENCIES = 100_000


class Said(NamedTuple):
    """What is held of an answer, in place of its row, which takes four times the memory.

    Attributes:
        label: what it says, `(none)` where it has no label.
        answer: all that it says: without a label, a digest of its fields.
        confidence: how sure it is, if it tells.
        seconds: from received to predicted, if it is known.
    """

    label: str
    answer: str
    confidence: float | None
    seconds: float | None


@dataclass
class Comparison:
    """What one shadow says beside what was served.

    Attributes:
        model: the shadow's version.
        results: ids in the DB.
        compared: ids of them for which the shadow has an answer.
        strangers: answers of the shadow whose ids the DB does not have.
        left_out: answers of all shadows beyond `MAX_ANSWERS`, which are not compared.
        agreed: ids with the same label, or, without labels, the same fields.
        pairs: (served, shadow) labels where they differ, and how often.
        known: compared ids whose truth is known.
        served_right: how many of these the served model had right.
        shadow_right: how many the shadow had right.
        only_served: right by the served model alone.
        only_shadow: right by the shadow alone.
        shifts: differences of confidence, shadow less served: sum, and number.
        served_seconds: from received to predicted, of the served model.
        shadow_seconds: the same of the shadow, which waits longer.
    """

    model: str
    results: int = 0
    compared: int = 0
    strangers: int = 0
    left_out: int = 0
    agreed: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    known: int = 0
    served_right: int = 0
    shadow_right: int = 0
    only_served: int = 0
    only_shadow: int = 0
    shifts: list[float] = field(default_factory=lambda: [0.0, 0.0])
    served_seconds: list[float] = field(default_factory=list)
    shadow_seconds: list[float] = field(default_factory=list)

    @property
    def p_value(self) -> float | None:
        """Of the sign test: how likely such a difference is if neither is better; None without."""
        return sign_test(self.only_served, self.only_shadow)

    def add(self, row: Result, shadow: Said) -> None:
        """Count an id that both have answered."""
        self.compared += 1
        served = _said(row)
        ours, theirs = served.label, shadow.label
        if served.answer == shadow.answer:
            self.agreed += 1
        else:
            self.pairs[ours, theirs] += 1
        truth = row.get("expected_label")
        if truth is not None:
            self.known += 1
            right, shadow_right = ours == truth, theirs == truth
            self.served_right += right
            self.shadow_right += shadow_right
            self.only_served += right and not shadow_right
            self.only_shadow += shadow_right and not right
        if served.confidence is not None and shadow.confidence is not None:
            self.shifts[0] += shadow.confidence - served.confidence
            self.shifts[1] += 1
        for said, seconds in ((served, self.served_seconds), (shadow, self.shadow_seconds)):
            if said.seconds is not None and len(seconds) < MAX_LATENCIES:
                seconds.append(said.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "model": self.model,
            "results": self.results,
            "compared": self.compared,
            "coverage": _share(self.compared, self.results),
            "answers_without_result": self.strangers,
            "answers_left_out": self.left_out,
            "agreement": _share(self.agreed, self.compared),
            "differences": [
                {"served": ours, "shadow": theirs, "count": count}
                for (ours, theirs), count in self.pairs.most_common()
            ],
            "confidence_shift": self.shifts[0] / self.shifts[1] if self.shifts[1] else None,
            "expected_known": self.known,
            "served_accuracy": _share(self.served_right, self.known),
            "shadow_accuracy": _share(self.shadow_right, self.known),
            "only_served_right": self.only_served,
            "only_shadow_right": self.only_shadow,
            "sign_test_p": self.p_value,
            "served_latency_p50": _middle(self.served_seconds),
            "shadow_latency_p50": _middle(self.shadow_seconds),
        }


def compare(db: ResultDatabase, advance: Advance = uncounted) -> list[Comparison]:
    """Compare each shadow that the DB has answers of with what was served.

    Args:
        db: which is read.
        advance: is told how many more rows are, of shadows and results.

    Raises:
        DatabaseUnavailableError, DatabaseClosedError: as iteration does.
    """
    answers: dict[str, dict[str, Said]] = {}
    held = left_out = 0
    for row in db.iter_shadow():
        if held < MAX_ANSWERS:
            answers.setdefault(str(row["model"]), {})[row["id"]] = _said(row)
            held += 1
        else:
            left_out += 1
        advance(1)
    found = {model: Comparison(model) for model in answers}
    for served in db:
        advance(1)
        for model, comparison in found.items():
            comparison.results += 1
            shadow = answers[model].pop(served["id"], None)
            if shadow is not None:
                comparison.add(served, shadow)
    for model, comparison in found.items():
        comparison.strangers = len(answers[model])
        comparison.left_out = left_out
    return list(found.values())


def sign_test(one: int, other: int) -> float | None:
    """Return the two-sided p-value of a sign test; None where nothing differs.

    Args:
        one: cases in which only the one is right.
        other: cases in which only the other is.

    Source: Q. McNemar, *Note on the sampling error of the difference between correlated
    proportions*, 1947; here its exact form.
    """
    number, fewer = one + other, min(one, other)
    if number == 0:
        return None
    if number <= EXACT_UP_TO:
        below = sum(math.comb(number, each) for each in range(fewer + 1))
        return float(min(1.0, 2 * below / 2**number))
    away = (number / 2 - fewer - 0.5) / math.sqrt(number / 4)
    return min(1.0, math.erfc(max(0.0, away) / math.sqrt(2)))


def as_text(comparison: Comparison) -> str:
    """Return a comparison as a few lines for a terminal."""
    told = comparison.as_dict()
    lines = [
        f"shadow       {brief(comparison.model)}",
        f"coverage     {comparison.compared:,} of {comparison.results:,} results have its answer"
        + (f"; {comparison.strangers:,} answers have no result" if comparison.strangers else ""),
    ]
    if comparison.left_out:
        lines.append(
            f"left out     {comparison.left_out:,} answers of shadows: {MAX_ANSWERS:,} are held in "
            "memory"
        )
    if comparison.compared:
        lines.append(
            f"agreement    {told['agreement']:.4%} ({counted(comparison.agreed, 'answer')})"
        )
    if told["confidence_shift"] is not None:
        lines.append(f"confidence   {told['confidence_shift']:+.4f} on average, against the served")
    if comparison.known:
        lines.append(
            f"accuracy     served {told['served_accuracy']:.4%}, shadow "
            f"{told['shadow_accuracy']:.4%} of {comparison.known:,} known"
        )
        p_value = comparison.p_value
        verdict = "no difference" if p_value is None else f"p = {p_value:.3g}"
        lines.append(
            f"sign test    only the served is right {comparison.only_served:,} times, only the "
            f"shadow {comparison.only_shadow:,}: {verdict}"
        )
    if told["served_latency_p50"] is not None and told["shadow_latency_p50"] is not None:
        lines.append(
            "latency      p50 from received to predicted "
            f"{told['served_latency_p50'] * 1e3:.1f} ms, of the shadow, which answers nobody, "
            f"{told['shadow_latency_p50'] * 1e3:.1f} ms"
        )
    if comparison.pairs:
        lines += ["", "served       shadow       times"]
        for (ours, theirs), count in comparison.pairs.most_common(PAIRS_SHOWN):
            lines.append(f"{brief(ours):12} {brief(theirs):12} {count:,}")
    return "\n".join(lines)


def _said(row: Result) -> Said:
    label, confidence = row.get("label"), row.get("confidence")
    named = isinstance(label, str)
    return Said(
        sys.intern(str(label)) if named else "(none)",
        sys.intern(str(label)) if named else answer_of(row),
        float(confidence) if isinstance(confidence, (int, float)) else None,
        _took(row),
    )


def _took(row: Mapping[str, Any]) -> float | None:
    received, predicted = seconds_of(row.get("received_at")), seconds_of(row.get("predicted_at"))
    return None if received is None or predicted is None else max(0.0, predicted - received)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _middle(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None

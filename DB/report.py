"""The summary as text."""

from __future__ import annotations

from DB.summary import Summary
from DurableText.program.wording import brief, counted, duration_in_words, rate_in_words

CONFUSIONS_SHOWN = 10


def as_text(summary: Summary) -> str:
    """Return the summary as a few lines for a terminal."""
    lines = [f"results      {summary.rows:,}"]
    if summary.corrupt:
        lines.append(f"corrupt      {counted(summary.corrupt, 'line')}: see `python -m DB verify`")
    if summary.accuracy is not None:
        lines.append(
            f"accuracy     {summary.accuracy:.4%} ({summary.correct:,} of {summary.known:,} right)"
        )
    if summary.latency_p50 is not None:
        values = (summary.latency_p50, summary.latency_p95, summary.latency_p99)
        p50, p95, p99 = (duration_in_words(value or 0.0) for value in values)
        lines.append(f"latency      p50 {p50}, p95 {p95}, p99 {p99} from published to stored")
    if summary.throughput is not None:
        rate = rate_in_words(summary.throughput, " results")
        lines.append(f"throughput   {rate} from first to last insert")
    if summary.first_stored_at is not None and summary.last_stored_at is not None:
        lines.append(
            f"stored       {summary.first_stored_at:%Y-%m-%d %H:%M:%S} to "
            f"{summary.last_stored_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    for model, count in summary.models.items():
        lines.append(f"model        {brief(model)}  {count:,}")
    lines += _unsure(summary)
    lines += _labels(summary)
    lines += _confusions(summary)
    return "\n".join(lines)


def _unsure(summary: Summary) -> list[str]:
    if not summary.unsure:
        return []
    lines = [f"unsure       {summary.unsure:,} below the server's --min-confidence"]
    for result_id, label, confidence in summary.unsure_first:
        how = "" if confidence is None else f"  {confidence:.2%}"
        lines.append(f"             {brief(result_id)}  {brief(label)}{how}")
    if summary.unsure > len(summary.unsure_first):
        lines.append(f"             and {summary.unsure - len(summary.unsure_first):,} more")
    return lines


def _labels(summary: Summary) -> list[str]:
    lines = ["", "label        results"] if summary.labels else []
    for label in sorted(summary.labels):
        count = summary.labels[label]
        bar = "#" * round(30 * count / max(summary.labels.values()))
        lines.append(f"{brief(label):12} {count:9,}  {bar}")
    return lines


def _confusions(summary: Summary) -> list[str]:
    if not summary.confusions:
        return []
    lines = ["", "expected     taken for    times"]
    for expected, given, count in summary.confusions[:CONFUSIONS_SHOWN]:
        lines.append(f"{brief(expected):12} {brief(given):12} {count:,}")
    rest = summary.confusions[CONFUSIONS_SHOWN:]
    if rest:
        results = sum(number for _, _, number in rest)
        lines.append(f"and {counted(len(rest), 'other pair')}, {counted(results, 'result')}")
    return lines

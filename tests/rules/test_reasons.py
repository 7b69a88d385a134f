"""The reasons of dead letters, and the events of the log: docs/operating.md tells of each."""

from __future__ import annotations

import re
from pathlib import Path

from MessageBroker.core import moving, subscription
from Modelling import errors
from Pipeline.serving import answering, model_server, result_publisher, result_store

GIVEN = {
    errors.UNDECODABLE,
    errors.TOOK_TOO_LONG,
    answering.UNREADABLE,
    answering.UNPREDICTABLE,
    model_server.KILLED_THE_SERVER,
    result_store.NO_INFERENCE_EVENT,
    result_publisher.UNPUBLISHABLE,
    result_publisher.CORRUPT_LINE,
    moving.UNREAD_REASON,
    subscription.EXHAUSTED_REASON,
}


ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
CODE = ("DB", "DurableText", "MessageBroker", "Modelling", "Pipeline", "Queue")


def test_every_reason_of_a_dead_letter_is_told_to_whoever_finds_one() -> None:
    table = OPERATING.split("| reason | where | meaning |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)) == GIVEN


def test_every_event_of_the_log_is_told_to_whoever_collects_them() -> None:
    sources = [path.read_text() for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    logged = {each for text in sources for each in re.findall(r'"event": "([a-z-]+)"', text)}
    table = OPERATING.split("| `event` | fields |")[1].split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line]
    assert {each for cell in first_cells for each in re.findall(r"`(.+?)`", cell)} == logged

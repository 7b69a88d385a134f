"""The reasons of dead letters: docs/operating.md says what each of them means."""

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


def test_every_reason_of_a_dead_letter_is_told_to_whoever_finds_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "operating.md"
    table = page.read_text().split("| reason | where | meaning |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)) == GIVEN

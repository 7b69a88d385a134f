"""What is known of an image comes from several places, in any order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from MessageBroker import Message
from MessageBroker.core.dead_letter import dead_letter_attributes
from Pipeline.page.board import Board
from Pipeline.page.journeys import Journeys

ID = "0199aaaa-0000-7000-8000-000000000001"
RESULT = {
    "id": ID, "label": "7", "confidence": 0.9, "published_at": "2026-01-01T00:00:00.000Z",
    "received_at": "2026-01-01T00:00:00.010Z", "predicted_at": "2026-01-01T00:00:00.020Z",
}  # fmt: skip
ROW = {**RESULT, "stored_at": "2026-01-01T00:00:00.040Z"}
AT = datetime(2026, 1, 1, 0, 0, 0, 30_000, UTC)


class Broker:
    name = "local"


@pytest.fixture
def journeys() -> Journeys:
    made = Journeys(Broker(), "images", None, Board())  # type: ignore[arg-type]
    made.follow(ID, "drawing.png")
    return made


def told(journeys: Journeys) -> dict[str, Any]:
    _, events = journeys._board.since(0)
    found: dict[str, Any] = orjson.loads(events.split(b"data: ")[-1].strip())
    return found


def result_comes(journeys: Journeys) -> None:
    data = orjson.dumps(RESULT)
    journeys.take_inferences([Message("1", data, {"ce_id": ID}, None, "inferences", AT)])


def row_comes(journeys: Journeys) -> None:
    journeys.take_rows([ROW])


def letter_comes(journeys: Journeys) -> None:
    attributes = dead_letter_attributes(
        {"ce_id": ID}, topic="images", message_id="1", attempts=1, reason="poison", error="why"
    )
    journeys.take_letters([Message("2", b"", attributes, None, "images-dead-letter", AT)])


@pytest.mark.parametrize("order", [[result_comes, row_comes], [row_comes, result_comes]])
def test_a_stored_image_has_its_five_moments_whatever_came_first(
    journeys: Journeys, order: list[Callable[[Journeys], None]]
) -> None:
    for comes in (*order, *order):
        comes(journeys)
    known = told(journeys)
    assert known["state"] == "stored"
    assert sorted(known["times"]) == [
        "predicted_at", "published_at", "received_at", "result_published_at", "stored_at",
    ]  # fmt: skip


def test_a_dead_letter_ends_the_way_and_a_replay_begins_it_anew(journeys: Journeys) -> None:
    letter_comes(journeys)
    assert told(journeys)["state"] == "dead letter"
    assert told(journeys)["why"] == "poison: why"
    journeys.follow(ID, "drawing.png")
    assert told(journeys)["state"] == "published"
    result_comes(journeys)
    assert told(journeys)["state"] == "predicted"
    row_comes(journeys)
    assert told(journeys)["state"] == "stored"


def test_of_many_images_the_last_are_followed(journeys: Journeys) -> None:
    for number in range(300):
        journeys.follow(str(number), "x")
    assert len(journeys._journeys) == 200
    result_comes(journeys)  # of one that is forgotten
    assert told(journeys)["id"] == "299"

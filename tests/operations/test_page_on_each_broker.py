"""The page follows, reads and replays on whichever broker it is; `tests/page` shows the rest."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers.harness import BrokerUnderTest
from tests.page.site import PagePipeline, Site
from tests.waiting import wait_until

REASON = "undecodable image"


@pytest.fixture
def site(under_test: BrokerUnderTest, tmp_path: Any) -> Iterator[Site]:
    with PagePipeline(under_test, tmp_path) as pipeline:
        yield Site(pipeline)


def state_of(site: Site, image_id: str) -> Any:
    """Read the stream until what was there has come; return how an image stands, as it says."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    state, looks = None, 0
    while looks < 2:  # the second is made after whatever was there
        line = answer.readline()
        looks += line.startswith(b"event: live")
        if line.startswith(b'data: {"id":"' + image_id.encode()):
            state = json.loads(line.removeprefix(b"data: "))["state"]
    connection.close()
    return state


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_an_image_is_followed_to_its_letter_and_back(site: Site) -> None:
    site.start()
    broker, topic = site.pipeline.connect(), site.pipeline.images
    wait_until(lambda: topic in broker.list_topics(), "the page made the topics")
    status, told = site.post("/api/images?name=drawing.png", b"no image at all")
    assert status == 202
    wait_until(lambda: state_of(site, told["id"]) == "published", "it is confirmed")

    site.start_scripts("model_server_sub")
    wait_until(lambda: state_of(site, told["id"]) == "dead letter", "its letter is followed")
    wait_until(lambda: len(site.read_letters()["letters"]) == 1, "it is listed")
    (letter,) = site.get("/api/letters")["letters"]
    assert (letter["reason"], letter["event_id"]) == (REASON, told["id"])

    assert site.post("/api/letters/settle", {"action": "replay", "ids": [letter["id"]]})[0] == 202

    def outcome() -> Any:
        return next(iter(site.get("/api/letters/outcomes")["outcomes"]), {}).get("done")

    wait_until(lambda: outcome() == "replayed", "it is sent home")
    wait_until(lambda: state_of(site, told["id"]) == "dead letter", "and is one again")
    site.server.terminate()

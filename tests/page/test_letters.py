"""What failed is seen with its picture, sent back, saved or thrown away."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from MessageBroker.core.broker import BrokerCore
from MessageBroker.dead_letters import Selection
from MessageBroker.errors import AuthenticationError
from Pipeline.page import letters as letters_module
from Pipeline.page.board import Board
from Pipeline.page.letters import LetterDesk
from Pipeline.page.shelf import LETTERS_A_PAGE, Filter
from tests.brokers.harness import clean_environment
from tests.operations.test_dead_letters_come_back import BROKEN_LIBRARY
from tests.operations.test_dead_letters_come_back import site as python_that_runs
from tests.page.site import SEVEN, PagePipeline, Site, draw
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, wait_until

REASON = "undecodable image"
HOSTILE = (
    '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\x1b]0;owned\x07\u202e'
)


def publish_letters(
    broker: BrokerCore, topic: str, bodies: list[bytes], reason: str = REASON, error: str = "why"
) -> None:
    for future in [
        broker.publish_dead_letter(topic, body, reason=reason, error=error) for body in bodies
    ]:
        future.result(30)


def test_a_poisoned_image_is_seen_and_replayed_when_its_cause_is_mended(
    seen: Site, tmp_path: Path
) -> None:
    seen.start_scripts("app_2", "model_server_pub")
    broken = python_that_runs(tmp_path / "broken", BROKEN_LIBRARY)
    faulty = seen.pipeline.start(
        "model_server_sub", "--queue", seen.pipeline.queue,
        "--metrics-port", seen.ports["model_server_sub"], **broken,
    ).ready()  # fmt: skip
    seen.start()
    page = seen.open()
    draw(page, SEVEN)
    page.click("#send")
    expect(page.locator("#waits")).to_contain_text(REASON)

    page.click("nav a[href='#letters']")
    letter = page.locator(".letter")
    expect(letter).to_have_count(1)
    expect(letter).to_contain_text(REASON)
    picture = letter.locator("img")
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") > 0

    faulty.terminate()
    seen.start_scripts("model_server_sub")
    letter.get_by_role("button", name="Replay").click()
    expect(page.locator("#letters-said")).to_contain_text("1 letter replayed")
    expect(page.locator("#letters-list li")).to_have_count(0)
    expect(page.locator("#letters-outcomes")).to_contain_text("drawing.png")
    expect(page.locator("#letters-outcomes")).to_contain_text("replayed → stored as 7")
    page.click("nav a[href='#draw']")
    expect(page.locator("#label")).to_have_text("7")
    expect(page.locator("#journey .steps li.done")).to_have_count(5)
    seen.pipeline.wait_for_rows(1)
    assert [row["label"] for row in seen.pipeline.rows()] == ["7"]


def test_a_letter_is_looked_at_saved_and_thrown_away(seen: Site, tmp_path: Path) -> None:
    seen.start()
    broker = seen.pipeline.connect()
    wait_until(lambda: seen.pipeline.images in broker.list_topics(), "the page made the topics")
    body = bytes(range(256)) * 3
    publish_letters(broker, seen.pipeline.images, [body])
    publish_letters(broker, seen.pipeline.images, [b"plain words"], reason="another")
    page = seen.open("letters", accept_downloads=True)
    expect(page.locator(".letter")).to_have_count(2)
    expect(page.locator("#letters-purge")).to_have_text("Purge all")
    page.select_option("#letters-since", "60")
    expect(page.locator("#letters-purge")).to_have_text("Purge those shown")
    page.select_option("#letters-since", "")
    page.select_option("#letters-reason", REASON)
    expect(page.locator(".letter")).to_have_count(1)
    expect(page.locator("#letters-purge")).to_have_text("Purge all of this reason")
    expect(page.locator(".letter .no-picture")).to_be_visible()

    page.get_by_role("button", name="Look").click()
    expect(page.locator("dialog pre")).to_contain_text("000010  10 11 12 13")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the original bytes").click()
    assert download.value.path().read_bytes() == body
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Purge", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Purge").click()
    expect(page.locator("#letters-said")).to_contain_text("1 letter purged")
    expect(page.locator(".letter")).to_have_count(1)
    expect(page.locator(".letter")).to_contain_text("another")
    page.get_by_role("button", name="Look").click()
    expect(page.locator("dialog")).to_contain_text("plain words")


def test_what_letters_hold_reaches_the_page_as_text(seen: Site) -> None:
    seen.start()
    broker = seen.pipeline.connect()
    topic = seen.pipeline.images
    wait_until(lambda: topic in broker.list_topics(), "the page made the topics")
    publish_letters(broker, topic, [HOSTILE.encode()], reason=HOSTILE, error=HOSTILE)
    letters = f"{topic}-dead-letter"
    # As a foreign program would: past our limits of an attribute.
    broker.publish_unchecked(
        letters, b"<svg onload=alert(1)>", None,
        {"dead_letter_reason": "<b>" * 300_000, HOSTILE: HOSTILE, "ce_subject": HOSTILE},
    ).result(30)  # fmt: skip
    page = seen.open("letters")
    expect(page.locator(".letter")).to_have_count(2)
    written = page.locator(".letter").filter(has_text="<script>window.owned=1</script>")
    expect(written).to_have_count(2)
    for number in range(2):
        page.get_by_role("button", name="Look").nth(number).click()
        expect(page.locator("dialog pre").last).to_be_visible()
        assert page.locator("dialog script, dialog svg, dialog b, main script").count() == 0
        page.keyboard.press("Escape")
    assert page.evaluate("window.owned") is None
    shown = page.locator("body").inner_text()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(shown) < 50_000
    status, headers, _ = seen.request(
        "GET", f"/api/letters/body?id={seen.get('/api/letters')['letters'][0]['id']}"
    )
    assert status == 200
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-type"] == "application/octet-stream"


def test_two_who_replay_one_letter_at_once_replay_it_once(site: Site) -> None:
    site.start()
    broker, topic = site.pipeline.connect(), site.pipeline.images
    wait_until(lambda: topic in broker.list_topics(), "the page made the topics")
    publish_letters(broker, topic, [b"one", b"two"])
    one = site.read_letters()["letters"][0]["id"]
    command = {"action": "replay", "ids": [one]}
    assert [site.post("/api/letters/settle", command)[0] for _ in range(2)] == [202, 202]

    def outcome() -> Any:
        told = site.get("/api/letters/outcomes")["outcomes"]
        return next((each for each in told if each["id"] == one), {})

    wait_until(lambda: outcome().get("done") == "replayed", "it was replayed")
    listed = site.read_letters()
    assert listed["read"] == 1
    assert broker.backlog(topic) == 1, "it went home once"
    assert outcome()["done"] == "replayed", "the second found nothing, and says nothing else"


def test_replay_by_the_page_and_by_the_command_is_the_same(site: Site, tmp_path: Path) -> None:
    site.start()
    broker, topic = site.pipeline.connect(), site.pipeline.images
    wait_until(lambda: topic in broker.list_topics(), "the page made the topics")
    publish_letters(broker, topic, [b"original bytes"])
    (letter,) = site.read_letters()["letters"]
    command = [sys.executable, "-m", "MessageBroker", "dead-letters", "save", letter["id"], topic]
    subprocess.run(
        [*command, "--output", str(tmp_path / "saved"), "--config-dir", site.pipeline.config_dir],
        cwd=ROOT, env={**clean_environment(), **site.pipeline.broker.environment}, check=True,
    )  # fmt: skip
    saved = site.request("GET", f"/api/letters/body?id={letter['id']}")[2]
    assert saved == (tmp_path / "saved").read_bytes() == b"original bytes"


class NoJourneys:
    """Follows nothing."""

    def follow(self, *arguments: object) -> None: ...


class WordsOnBoard(Board):
    """A board that keeps all that was said of the letters."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[dict[str, Any]] = []

    def post(self, kind: str, value: dict[str, Any], key: str = "") -> None:
        super().post(kind, value, key)
        self.words.append(value)

    @property
    def at_rest(self) -> bool:
        return self.words[-1]["doing"] is None


@pytest.fixture
def desk(page_pipeline: PagePipeline, monkeypatch: pytest.MonkeyPatch) -> LetterDesk:
    """A desk that reads a few letters at once."""
    monkeypatch.setattr(letters_module, "SHOWN", letters_module.Bounds(letters=20, bytes=1000))
    broker = page_pipeline.connect()
    broker.create_topic(page_pipeline.images)

    def open_broker(delivery: Any) -> BrokerCore:
        return type(broker).from_config(page_pipeline.config_dir, delivery)

    return desk_of(open_broker, page_pipeline.images, Board())


def desk_of(open_broker: Callable[[Any], BrokerCore], topic: str, board: Board) -> LetterDesk:
    return LetterDesk("local", open_broker, [topic], board, NoJourneys())  # type: ignore[arg-type]


def test_why_nothing_was_replayed_stays_when_the_letters_are_read_again(
    page_pipeline: PagePipeline,
) -> None:
    """After each settling they are read, which may well work."""
    broker, board = page_pipeline.connect(), WordsOnBoard()
    broker.create_topic(page_pipeline.images)
    refusals = [AuthenticationError("not allowed to publish")]

    def open_broker(delivery: Any) -> BrokerCore:
        if refusals:
            raise refusals.pop()
        return type(broker).from_config(page_pipeline.config_dir, delivery)

    desk = desk_of(open_broker, page_pipeline.images, board)
    desk.settle("replay", Selection())
    wait_until(lambda: board.at_rest and board.words[-1]["read_at"], "they are read again")
    assert board.words[-1]["error"] == "not allowed to publish"
    desk.settle("purge", Selection())
    wait_until(lambda: board.at_rest and board.words[-1]["said"], "it has worked")
    assert board.words[-1]["error"] is None


def test_what_the_board_says_last_is_how_it_is() -> None:
    """Letters that come while others are read: whoever was slow to say so says nothing old."""
    comes, rested = threading.Event(), threading.Event()

    class SlowBoard(WordsOnBoard):
        def post(self, kind: str, value: dict[str, Any], key: str = "") -> None:
            if threading.current_thread().name == "slow":
                comes.set()
                rested.wait(0.5)  # in vain, where the desk waits for its turn to speak
            super().post(kind, value, key)
            if value["doing"] is None and value["error"]:
                rested.set()

    def open_broker(_delivery: Any) -> BrokerCore:
        comes.wait(PATIENCE_SECONDS)
        raise AuthenticationError("not allowed to read")

    board = SlowBoard()
    desk = desk_of(open_broker, "images", board)
    desk.read()
    slow = threading.Thread(target=desk.take_letters, args=([],), name="slow")
    slow.start()
    slow.join()
    assert rested.wait(PATIENCE_SECONDS)
    assert board.at_rest


def read(desk: LetterDesk) -> dict[str, Any]:
    before = desk.listing(Filter(), 0)["read_at"]
    desk.read()
    wait_until(lambda: desk.listing(Filter(), 0)["read_at"] != before, "they are read")
    return desk.listing(Filter(), 0)


@pytest.mark.parametrize(("count", "size"), [(50, 1), (10, 200)])
def test_more_letters_than_are_read_at_once_are_told(
    desk: LetterDesk, page_pipeline: PagePipeline, count: int, size: int
) -> None:
    broker = page_pipeline.connect()
    publish_letters(broker, page_pipeline.images, [bytes(size)] * count)
    listed = read(desk)
    assert listed["more"] is True
    assert listed["waiting"] == count
    assert listed["read"] < count
    assert broker.backlog(f"{page_pipeline.images}-dead-letter") == count, "all stay"


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_hundred_thousand_letters_are_read_up_to_ten_thousand(site: Site) -> None:
    site.start()
    broker, topic = site.pipeline.connect(), site.pipeline.images
    wait_until(lambda: topic in broker.list_topics(), "the page made the topics")
    publish_letters(broker, topic, [b"%d" % i for i in range(100_000)])
    listed = site.read_letters()
    assert (listed["read"], listed["more"], listed["waiting"]) == (10_000, True, 100_000)
    assert len(listed["letters"]) == LETTERS_A_PAGE

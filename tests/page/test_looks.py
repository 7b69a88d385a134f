"""Every view at every width, light and dark: nothing is cut off, and anybody can read it."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.site import SEVEN, Site, draw
from tests.page.test_letters import HOSTILE, publish_letters
from tests.waiting import wait_until

VIEWS = ("draw", "live", "letters", "results")
WIDTHS = (360, 800, 1400)


def complaints(page: Page) -> list[str]:
    """What axe-core finds on the page as it is."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_a_screen_reader_reads_it(seen: Site, scheme: str) -> None:
    seen.start_scripts()
    seen.start()
    broker = seen.pipeline.connect()
    wait_until(lambda: seen.pipeline.images in broker.list_topics(), "the page made the topics")
    publish_letters(broker, seen.pipeline.images, [b"x" * 500], error=HOSTILE + "long" * 200)
    page = seen.open(color_scheme=scheme, bypass_csp=True)  # axe brings its own script
    draw(page, SEVEN)
    page.fill("#expected", "1")
    page.click("#send")
    expect(page.locator("#journey .steps li.done")).to_have_count(5)
    for view in VIEWS:
        page.click(f"nav a[href='#{view}']")
        expect(page.locator(f"#view-{view}")).to_be_visible()
        if view == "letters":
            expect(page.locator(".letter")).to_have_count(1)
        if view == "results":
            expect(page.locator(".matrix")).to_be_visible()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, width)
        assert complaints(page) == [], view
    page.click("nav a[href='#letters']")
    page.locator(".letter").get_by_role("button", name="Look").click()
    expect(page.locator("dialog pre").last).to_be_visible()
    assert complaints(page) == []


def test_a_long_name_of_a_file_takes_a_few_lines_of_its_card(seen: Site) -> None:
    seen.start_scripts()
    seen.start()
    page = seen.open()
    names = ["no picture.png", f"{'long' * 50}.png"]
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "image/png", "buffer": b"no image"} for name in names]
    )
    card = page.locator("#lately .card")
    expect(card).to_have_count(2)
    expect(card.locator(".no-picture")).to_have_count(2)
    for number, name in enumerate(reversed(names)):
        assert card.nth(number).get_attribute("title") == name
        outer = card.nth(number).bounding_box()
        inner = card.nth(number).locator(".no-picture").bounding_box()
        assert outer is not None
        assert inner is not None
        assert inner["y"] - outer["y"] < 20
        assert inner["height"] == inner["width"]
        assert outer["height"] < 250


def test_all_is_reached_by_keyboard_and_the_view_is_told(seen: Site) -> None:
    seen.start()
    page = seen.open()
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.hash"))
    assert {"#main", "#letters", "pad", "undo", "brush", "expected", "send", "files"} <= reached
    page.locator("nav a[href='#results']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("nav [aria-current]")).to_have_text("Results")
    assert page.title().startswith("Results")

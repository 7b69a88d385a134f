"""What is drawn goes through the real topics, and the page follows it to the DB."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from DB import open_database
from tests.page.site import SEVEN, Site, draw


def wait_until_stored(page: Page) -> dict[str, Any]:
    """Wait until the image that is shown is stored; return its row as the browser knows it."""
    expect(page.locator("#journey .steps li.done")).to_have_count(5)
    image_id = page.locator("#journey .mono").first.inner_text()
    return {"id": image_id, "label": page.locator("#label").inner_text()}


def test_a_seven_that_is_drawn_is_seen_to_arrive_and_is_in_the_db(seen: Site) -> None:
    seen.start_scripts()
    seen.start()
    page = seen.open()
    draw(page, SEVEN)
    page.fill("#expected", "7")
    page.click("#send")

    shown = wait_until_stored(page)
    assert shown["label"] == "7"
    assert page.locator(".shares li").count() == 10
    took = page.locator("#journey .took").all_inner_texts()
    assert all(" ms" in each or " s" in each for each in took[1:]), took
    saw = page.get_by_alt_text("the image as the model saw it")
    saw.evaluate("image => image.decode()")
    assert saw.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [28, 28]
    expect(page.locator("#lately li")).to_have_count(1)

    with open_database(seen.pipeline.db, read_only=True) as db:
        row = db.get(shown["id"])
    assert row is not None
    assert (row["label"], row["expected_label"], row["source"]) == ("7", "7", "drawing.png")
    assert len(row["top"]) == 10
    assert row["top"][0]["label"] == "7"


def test_an_image_waits_for_a_model_server_that_was_killed_and_comes_when_it_comes(
    seen: Site,
) -> None:
    seen.start_scripts("app_2", "model_server_pub")
    server = seen.start_script("model_server_sub").ready()
    seen.start()
    page = seen.open()
    server.kill()
    draw(page, SEVEN)
    page.click("#send")

    waits = page.locator("#waits")
    expect(waits).to_have_text("waits in its topic; model_server_sub: away")
    expect(page.locator("#journey .steps li.done")).to_have_count(1)

    seen.start_script("model_server_sub")
    assert wait_until_stored(page)["label"] == "7"
    expect(waits).to_have_text("")


def test_the_pad_by_hand_and_by_keyboard_and_files_beside_it(seen: Site) -> None:
    seen.start_scripts()
    seen.start()
    page = seen.open()
    page.click("#send")
    expect(page.locator("#send-error")).to_contain_text("nothing on the pad")

    draw(page, [[(0.2, 0.2), (0.8, 0.8)]])
    page.click("#undo")
    draw(page, [[(0.8, 0.2), (0.2, 0.8)]])
    page.click("#clear")
    pad = page.locator("#pad")
    pad.focus()
    page.keyboard.press("Space")  # the pen is down: a one
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert wait_until_stored(page)["label"] == "1"

    pad_picture = page.evaluate("document.getElementById('pad').toDataURL().length")
    assert pad_picture < 20_000, "the pad is clear after it was sent"
    page.set_input_files("#files", files=[
        {"name": "<b>evil</b>.png", "mimeType": "image/png", "buffer": _one_as_png()}
    ])  # fmt: skip
    expect(page.locator("#lately li")).to_have_count(2)
    expect(page.locator("#journey")).to_contain_text("<b>evil</b>.png")
    assert wait_until_stored(page)["label"] == "1"


def _one_as_png() -> bytes:
    import io

    from PIL import Image, ImageDraw

    image = Image.new("L", (120, 160), 255)
    ImageDraw.Draw(image).line((60, 20, 60, 140), fill=0, width=14)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()

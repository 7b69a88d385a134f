"""What a person writes on the pad is read: the strokes go through the pad to the model."""

from __future__ import annotations

from playwright.sync_api import Route

from Modelling.predict_cnn import load_classifier
from tests.page.hands import DIGITS, HANDS, Hand
from tests.page.site import Site

# The events of a pen, and a click; the browser's own would take a minute for five thousand of them.
WRITE = """(strokes) => {
  const pad = document.getElementById("pad");
  pad.setPointerCapture = () => {};
  const { left, top, width, height } = pad.getBoundingClientRect();
  const tell = (name, [x, y]) => pad.dispatchEvent(new PointerEvent(name, {
    pointerType: "pen", isPrimary: true, button: 0, cancelable: true,
    clientX: left + x * width, clientY: top + y * height,
  }));
  for (const [first, ...rest] of strokes) {
    tell("pointerdown", first);
    for (const place of rest) tell("pointermove", place);
    tell("pointerup", first);
  }
  document.getElementById("send").click();
}"""
# Of the digits of all hands, so many are read as what they are, at least.
WANTED = 0.99


def test_the_digits_of_twenty_hands_are_read(seen: Site) -> None:
    seen.start()
    page = seen.open()
    pictures: list[bytes] = []

    def take(route: Route) -> None:
        pictures.append(route.request.post_data_buffer or b"")
        route.fulfill(status=202, json={"id": "none"})

    page.route("**/api/images?*", take)
    meant = []
    for number in range(HANDS):
        hand = Hand(number)
        for digit in DIGITS:
            with page.expect_response("**/api/images?*"):
                page.evaluate(WRITE, hand.write(digit))
            meant.append(digit)

    classifier = load_classifier()
    pixels, errors = classifier.prepare_batch(pictures)
    assert errors == [None] * len(meant)
    read = classifier.predict(pixels).labels
    wrong = [(digit, label) for digit, label in zip(meant, read, strict=True) if digit != label]
    assert len(wrong) <= (1 - WANTED) * len(meant), wrong

"""Several digits on one picture are refused by name; the strokes of one digit are not several."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.scenes import EASY, HARD
from Modelling.data_preparation import encode_npy
from Modelling.images.several import require_one_digit, with_several_digits
from Modelling.predict_cnn import Classifier, ImageError
from tests.modelling.test_preparation import Mnist

Drawn = list[tuple[list[tuple[int, int]], int]]  # points of a line, and its width

SEVERAL = "several digits on one image"


def tight(digit: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def in_a_row(digits: np.ndarray, gap: int) -> np.ndarray:
    """Set digits side by side, so many pixels apart, on black."""
    cut = [tight(digit) for digit in digits]
    high = max(map(len, cut)) + 8
    spaced = []
    for each in cut:
        above = (high - len(each)) // 2
        spaced.append(np.pad(each, [(above, high - len(each) - above), (0, gap)]))
    return np.pad(np.concatenate(spaced, axis=1), [(0, 0), (6, 6)])


def squared(picture: np.ndarray) -> np.ndarray:
    side = max(picture.shape)
    lack = [side - size for size in picture.shape]
    return np.pad(picture, [(each // 2, each - each // 2) for each in lack])


def png(picture: np.ndarray, times: int = 1) -> bytes:
    image = Image.fromarray(picture)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def reasons(datas: list[bytes], classifier: Classifier) -> list[str | None]:
    _, errors = classifier.prepare_batch(datas)
    return [error.reason.partition(":")[0] if error else None for error in errors]


def test_two_digits_in_28_by_28_are_refused_in_a_batch_and_alone(
    mnist: Mnist, classifier: Classifier
) -> None:
    pictures = []
    for number in range(20):
        row = Image.fromarray(squared(in_a_row(mnist[0][2 * number : 2 * number + 2], 6)))
        pictures.append(np.asarray(row.resize((28, 28), Image.Resampling.BOX)))
    bright = [np.clip(picture.astype(int) * 2, 0, 255).astype(np.uint8) for picture in pictures]
    datas = [encode_npy(picture) for picture in bright]
    one = encode_npy(mnist[0][0])
    assert reasons([one, *datas], classifier) == [None] + [SEVERAL] * 20
    for data in (*datas[:3], png(bright[0]), png(255 - bright[0])):
        with pytest.raises(ImageError, match=SEVERAL):
            classifier.prepare(data)


@pytest.mark.parametrize("times", [1, 4, 10])
@pytest.mark.parametrize(("count", "gap"), [(2, 4), (2, 15), (3, 12)])
def test_digits_that_stand_apart_on_a_drawing_are_refused(
    times: int, count: int, gap: int, mnist: Mnist, classifier: Classifier
) -> None:
    rows = [in_a_row(mnist[0][count * n : count * n + count], gap) for n in range(8)]
    rows += [np.concatenate([rows[0], np.pad(rows[0][:, ::-1], [(4, 0), (0, 0)])])]
    assert reasons([png(255 - row, times) for row in rows], classifier) == [SEVERAL] * len(rows)


@pytest.mark.parametrize("scene", [*HARD, "plain"])
def test_digits_that_stand_apart_on_a_photograph_are_hardly_read(
    scene: str, mnist: Mnist, classifier: Classifier
) -> None:
    rng = np.random.default_rng(5)
    rows = [squared(in_a_row(mnist[0][2 * number : 2 * number + 2], 5)) for number in range(8)]
    found = reasons([(HARD | EASY)[scene](row, rng) for row in rows], classifier)
    assert found.count(SEVERAL) >= 6


def test_no_digit_of_the_test_images_is_several(mnist: Mnist, classifier: Classifier) -> None:
    assert not with_several_digits(mnist[0]).any()
    large = [png(255 - digit, 4) for digit in mnist[0][5000:5100]]
    assert reasons(large, classifier) == [None] * 100


FIVE: Drawn = [
    ([(40, 20), (38, 60), (70, 60), (85, 85), (70, 115), (35, 112)], 9),
    ([(52, 18), (90, 16)], 9),  # its bar, which keeps away from it
]
BROKEN_EIGHT: Drawn = [
    ([(60, 62), (40, 45), (60, 20), (82, 42), (60, 62)], 8),
    ([(60, 78), (38, 100), (60, 125), (86, 100), (60, 78)], 8),
]
TORN_NOUGHT: Drawn = [
    ([(58, 20), (35, 40), (32, 75), (40, 105), (58, 122)], 8),
    ([(68, 20), (90, 45), (92, 80), (84, 106), (68, 122)], 8),
]
OPEN_FOUR: Drawn = [
    ([(45, 20), (30, 75), (70, 75)], 8),
    ([(82, 25), (80, 125)], 8),
]
DIRT: Drawn = [
    ([(70, 20), (60, 120)], 9),
    ([(20, 30), (22, 32)], 5),
    ([(110, 90), (112, 92)], 6),
    ([(15, 120), (30, 124)], 3),
]
UNDERLINED: Drawn = [
    ([(45, 30), (65, 20), (80, 40), (40, 105), (85, 105)], 8),
    ([(20, 128), (115, 128)], 3),
]
BOXED: Drawn = [
    ([(70, 30), (62, 110)], 8),
    ([(12, 12), (128, 12), (128, 128), (12, 128), (12, 12)], 3),
]


@pytest.mark.parametrize(
    "drawn", [FIVE, BROKEN_EIGHT, TORN_NOUGHT, OPEN_FOUR, DIRT, UNDERLINED, BOXED],
    ids=["bar of a 5", "broken 8", "torn 0", "open 4", "dirt", "underlined", "in a box"],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 4])
def test_the_strokes_of_one_digit_are_not_several(
    drawn: Drawn, times: int, classifier: Classifier
) -> None:
    image = Image.new("L", (140 * times, 140 * times), 250)
    for points, width in drawn:
        line = [(x * times, y * times) for x, y in points]
        ImageDraw.Draw(image).line(line, fill=30, width=width * times, joint="curve")
    picture = np.asarray(image)
    assert SEVERAL not in reasons([png(picture)], classifier)


def test_what_nearly_touches_is_one_and_a_blank_none() -> None:
    for gap, several in ((1, False), (4, True)):
        ink = np.zeros((40, 40), bool)
        ink[5:35, 8:12] = ink[5:35, 12 + gap : 16 + gap] = True
        if several:
            with pytest.raises(ImageError, match=SEVERAL):
                require_one_digit(ink)
        else:
            require_one_digit(ink)
    require_one_digit(np.zeros((40, 40), bool))

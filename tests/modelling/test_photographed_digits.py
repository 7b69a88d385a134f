"""Digits with something beside them: either found, or refused, but never surely wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import outcome_of, pictures_of, without_digit
from benchmarks.scenes import BOTH, EASY, HARD
from Modelling.images.clutter import fills
from Modelling.images.components import components_of
from Modelling.images.frames import frames_in
from Modelling.images.hats import closing
from Modelling.predict_cnn import Classifier
from tests.modelling.test_preparation import Mnist

# Drawing one takes as long as reading it: a few here, hundreds in `benchmarks.photographs`.
DIGITS_A_SCENE = 20

# Seeds of pictures without a digit on which a finger, or a shadow's edge, was once read as one:
# because it alone touched the border, or a corner of it, or showed no more than its end.
ONCE_READ = {
    "finger in a corner": [(100, 12), (100, 26), (100, 60), (101, 119), (101, 238), (102, 172)],
    "shadow's edge": [(100, 32), (100, 78), (102, 60), (102, 94), (103, 0), (103, 168)],
}


@pytest.mark.parametrize("scene", HARD)
def test_what_lies_beside_a_digit_is_no_stroke(scene: str, classifier: Classifier) -> None:
    outcome = outcome_of(*pictures_of(HARD[scene], DIGITS_A_SCENE, tuning=False), classifier)
    assert outcome.right >= 0.95
    assert outcome.surely_wrong * DIGITS_A_SCENE <= 1  # of 400 four, see the benchmark


@pytest.mark.parametrize("scene", BOTH)
def test_two_things_beside_a_digit_are_no_strokes(scene: str, classifier: Classifier) -> None:
    outcome = outcome_of(*pictures_of(BOTH[scene], DIGITS_A_SCENE, tuning=True), classifier)
    assert outcome.right >= 0.95


@pytest.mark.parametrize("scene", EASY)
def test_a_digit_on_paper_alone_is_read_on_any_photograph(
    scene: str, classifier: Classifier
) -> None:
    outcome = outcome_of(*pictures_of(EASY[scene], DIGITS_A_SCENE // 4, tuning=False), classifier)
    assert outcome.right == 1


@pytest.mark.parametrize("scene", HARD | BOTH)
def test_without_a_digit_there_is_no_sure_answer(scene: str, classifier: Classifier) -> None:
    seeds = ONCE_READ.get(scene, [(4, number) for number in range(4)])
    outcome = without_digit((HARD | BOTH)[scene], seeds, classifier)
    assert outcome.refused >= 0.75
    assert outcome.surely_wrong == 0


def test_a_box_that_a_digit_touches_is_taken_away(mnist: Mnist, classifier: Classifier) -> None:
    datas = []
    for image in mnist[0][:20]:
        sheet = Image.new("L", (400, 400), 235)
        box = np.full((260, 260), 40, np.uint8)
        box[6:-6, 6:-6] = 235
        digit = np.asarray(Image.fromarray(image).resize((300, 300), Image.Resampling.BICUBIC))
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][:250]
        left = (260 - digit.shape[1]) // 2
        inner = box[2 : 2 + digit.shape[0], left : left + digit.shape[1]]
        inner[:] = np.minimum(inner, 235 - 0.8 * digit)
        sheet.paste(Image.fromarray(box), (70, 70))
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=85)
        datas.append(buffer.getvalue())
    prepared, errors = classifier.prepare_batch(datas)
    right = classifier.predict(prepared).class_indices
    expected = mnist[1][:20][[error is None for error in errors]]
    assert (right == expected).sum() >= 18


@pytest.mark.parametrize(
    ("radius", "places"),
    [(6, [(40, 60), (440, 600), (60, 560)]), (5, [(460, 20 + 8 * column) for column in range(12)])],
    ids=["dirt", "a line of print"],
)
def test_what_is_small_and_far_from_the_digit_does_not_make_it_smaller(
    radius: int, places: list[tuple[int, int]], mnist: Mnist, classifier: Classifier
) -> None:
    rows, columns = np.mgrid[:480, :640]
    datas = []
    for image in mnist[0][:40]:
        sheet = np.full((480, 640), 240, np.float32)
        digit = Image.fromarray(image).resize((240, 240), Image.Resampling.BICUBIC)
        sheet[120:360, 200:440] -= 0.8 * np.asarray(digit)
        for row, column in places:
            sheet[np.hypot(rows - row, columns - column) <= radius] = 80
        buffer = io.BytesIO()
        Image.fromarray(sheet.astype(np.uint8)).save(buffer, "PNG")
        datas.append(buffer.getvalue())
    prepared, errors = classifier.prepare_batch(datas)
    assert not any(errors)
    assert (classifier.predict(prepared).class_indices == mnist[1][:40]).mean() >= 0.97


def test_the_paper_inside_of_a_digit_that_fills_its_picture_is_no_stroke(
    mnist: Mnist, classifier: Classifier
) -> None:
    rng = np.random.default_rng(0)
    datas = []
    for image in mnist[0][:150]:
        digit = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))
        rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
        digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        sheet = 235 - 0.7 * np.pad(digit, 2) + rng.normal(0, 4, [side + 4 for side in digit.shape])
        buffer = io.BytesIO()
        Image.fromarray(np.clip(sheet, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
        datas.append(buffer.getvalue())
    prepared, errors = classifier.prepare_batch(datas)
    answers = classifier.predict(prepared).class_indices
    expected = mnist[1][:150][[error is None for error in errors]]
    assert len(answers) >= 135
    assert (answers != expected).sum() <= 1


def test_a_sheet_on_a_table_does_not_fill_its_picture() -> None:
    """Where table and ink are of one colour, the sheet between them is as a digit is."""
    dark = np.zeros((200, 150), bool)
    dark[5:195, 5:145] = True
    assert not fills(dark)
    dark[40:160, 40:110] = False
    assert fills(dark)
    assert not fills(np.pad(dark, 20))


def test_components_are_what_a_flood_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 20, 2)) < rng.random()
        found = components_of(mask)
        flooded = _flooded(mask)
        pairs = set(zip(found.labels.ravel().tolist(), flooded.ravel().tolist(), strict=True))
        assert len(pairs) == len(set(found.labels.ravel().tolist()))
        assert len(pairs) == len(set(flooded.ravel().tolist()))
        assert found.area[1:].sum() == mask.sum()


def _flooded(mask: np.ndarray) -> np.ndarray:
    """Number the components one after another, from a pixel to its eight neighbours."""
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        waiting = [start] if not labels[start] else []
        number = labels.max() + 1
        while waiting:
            row, column = waiting.pop()
            near = np.zeros_like(mask)
            near[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
            new = near & mask & (labels == 0)
            labels[new] = number
            waiting += list(zip(*np.nonzero(new), strict=True))
    return labels


def test_closing_fills_what_is_thin_and_keeps_edges_and_corners() -> None:
    picture = np.full((60, 60), 200, np.uint8)
    picture[:, 40:] = 90  # a shadow
    picture[:20, :15] = 30  # a table's corner
    plain = picture.copy()
    picture[25:50, 10:15] = 10
    picture[25:50, 50:54] = 10
    assert np.array_equal(closing(picture, 12), plain)


def test_a_frame_is_a_frame_and_a_zero_is_none() -> None:
    y, x = np.mgrid[0:100, 0:100]
    frame = np.maximum(abs(x - 50), abs(y - 50)) == 40
    frame[45:55, 45:55] = True
    ring = abs(np.hypot(x - 50, 1.2 * (y - 50)) - 35) < 3
    lines = frames_in(components_of(frame), 10)
    assert lines is not None
    assert lines[10, 50]
    assert not lines[50, 50]
    assert frames_in(components_of(ring), 10) is None

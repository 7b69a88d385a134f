"""Large arrays stay as they came until the threads of the network take them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Modelling.images import plain_arrays
from Modelling.images.plain_arrays import AsSent
from Modelling.network.input_range import UNIT
from Modelling.predict_cnn import load_classifier
from Modelling.predictor import Item, sizes_of
from Modelling.predictors.images import ImagePredictor
from Pipeline.serving.ahead import pieces_of
from tests.modelling.foreign import SIDE, colours_onnx

PICTURES = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(autouse=True)
def pictures_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_arrays, "LARGE_BYTES", SIDE)


def predictor(folder: Path, threads: int, layout: str = "NCHW") -> ImagePredictor:
    path = colours_onnx(folder / "colours.onnx", layout=layout)
    return ImagePredictor(load_classifier(path, threads=threads, input_range=UNIT))


def saved(array: np.ndarray, **attributes: str) -> Item:
    file = io.BytesIO()
    np.save(file, array)
    return Item(file.getvalue(), attributes)


def as_png(array: np.ndarray) -> Item:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return Item(file.getvalue(), {})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_stays_as_it_came_is_answered_as_what_was_prepared(
    layout: str, tmp_path: Path
) -> None:
    items = [saved(each) for each in PICTURES]
    several, one = (predictor(tmp_path, threads, layout) for threads in (2, 1))
    left, errors = several.prepare_batch(items)
    prepared, _ = one.prepare_batch(items)
    assert isinstance(left, AsSent)
    assert isinstance(prepared, np.ndarray)
    assert errors == [None] * len(items)
    for rows in (slice(0, 40), slice(3, 4), slice(39, 48)):
        assert np.array_equal(left[rows], prepared[rows])
        assert left[rows].strides[1:] == prepared[rows].strides[1:]
    for count in (1, 3, 40):  # by all threads together, and side by side
        left, _ = several.prepare_batch(items[:count])
        assert several.predict(left) == one.predict(prepared[:count])


def test_what_stays_as_it_came_is_one_piece_however_much_it_is(tmp_path: Path) -> None:
    items = [saved(each) for each in PICTURES]
    assert pieces_of(sizes_of(predictor(tmp_path, 2), items), 1) == [slice(0, 40)]
    assert len(pieces_of(sizes_of(predictor(tmp_path, 1), items), 1)) == 40


@pytest.mark.parametrize(
    "other",
    [
        as_png(PICTURES[0]),
        saved(PICTURES[0], white="200"),
        saved(PICTURES[0] > 127),
        saved((PICTURES[0] > 127).astype(np.uint8)),
        saved(PICTURES[0, :-1]),
        saved(PICTURES[0].astype(np.float32)),
        Item(b"", {}),
    ],
    ids=["PNG", "white", "booleans", "mask", "size", "floats", "empty"],
)
def test_a_batch_with_anything_else_is_prepared_at_once(other: Item, tmp_path: Path) -> None:
    items = [*map(saved, PICTURES[:3]), other]
    several, one = predictor(tmp_path, 2), predictor(tmp_path, 1)
    batch, errors = several.prepare_batch(items)
    expected, expected_errors = one.prepare_batch(items)
    assert isinstance(batch, np.ndarray)
    assert isinstance(expected, np.ndarray)
    assert np.array_equal(batch, expected)
    assert list(map(str, errors)) == list(map(str, expected_errors))
    assert min(sizes_of(several, items)) >= several.item_bytes

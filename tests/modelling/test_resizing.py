"""A picture is scaled as the model's training did it; the side file says how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Modelling.data_preparation import Preparation, encode_npy
from Modelling.images.resizing import WAYS, box_of, resized
from Modelling.network.checkpoint import SideFile, sha256_of, write_side_file
from Modelling.predict_cnn import load_classifier

Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    return pytest.importorskip("tensorflow")


def fence(height: int, width: int) -> np.ndarray:
    """Bars of three pixels, as a fence in a photograph, and a slope of colour."""
    x = np.arange(width)
    bars = np.where(x // 3 % 2, 220, 30)[None, :, None] * np.ones((height, 1, 3))
    bars[..., 1] = np.linspace(0, 255, height)[:, None]
    return bars.astype(np.uint8)


KERAS = {"bilinear": ("bilinear", False), "nearest": ("nearest", False), "crop": ("bilinear", True)}


@pytest.mark.parametrize("way", KERAS)
@pytest.mark.parametrize("size", [(100, 160), (97, 61), (20, 24), (31, 200)])
def test_what_is_said_to_be_keras_is_keras(
    way: str, size: tuple[int, int], tensorflow: Any, tmp_path: Path
) -> None:
    keras = pytest.importorskip("keras")
    (tmp_path / "a").mkdir()
    picture = fence(*size)
    Image.fromarray(picture).save(tmp_path / "a" / "1.png")
    interpolation, crop = KERAS[way]
    loaded = keras.utils.image_dataset_from_directory(
        str(tmp_path), image_size=(32, 48), interpolation=interpolation, crop_to_aspect_ratio=crop,
        labels=None, verbose=False,
    )  # fmt: skip
    expected = np.asarray(next(iter(loaded)))[0] / 255
    assert np.abs(resized(picture, 32, 48, way) - expected).max() < 2e-3


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_of_the_models_size_passes_bit_for_bit(way: str) -> None:
    picture = fence(32, 48)
    assert np.array_equal(resized(picture, 32, 48, way), picture.astype(np.float32) / 255)


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_are_the_same_for_a_large_photograph_as_for_an_array(
    way: str, encode: Encode
) -> None:
    """No shortcut while it is decoded where single pixels count."""
    picture = fence(1200, 1601)
    preparation = Preparation((32, 48, 3), resize=way)
    whole = resized(picture, 32, 48, way)
    tolerance = 0.02 if "antialiased" in way else 2e-3
    assert np.abs(preparation.of(encode(picture, "PNG")).pixels - whole).mean() < tolerance
    array = preparation.of(encode_npy(picture)).pixels
    assert np.abs(array - whole).mean() < tolerance


def test_only_the_ways_that_average_see_a_fence_as_grey() -> None:
    picture = fence(400, 600)
    spread = {way: float(resized(picture, 40, 40, way)[..., 0].std()) for way in WAYS}
    assert max(spread["antialiased"], spread["crop-antialiased"]) < 0.1
    assert min(spread["bilinear"], spread["nearest"], spread["crop"]) > 0.2


def test_cropping_keeps_the_middle_and_the_proportions() -> None:
    assert box_of(160, 100, 50, 50, "crop") == (30, 0, 130, 100)
    assert box_of(100, 160, 50, 50, "crop-antialiased") == (0, 30, 100, 130)
    assert box_of(160, 100, 50, 50, "bilinear") == (0, 0, 160, 100)
    assert box_of(1, 9000, 50, 50, "crop") == (0, 4499, 1, 4500)


def test_the_side_file_says_which_way(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)]).save(path)
    data = encode_npy(fence(64, 100))
    for way in (None, *WAYS):
        write_side_file(path, SideFile(sha256_of(path), ("a", "b"), (8, 8, 3), resize=way))
        assert json.loads(path.with_suffix(".json").read_text()).get("resize") == way
        prepared = load_classifier(path).prepare(data)
        assert np.array_equal(prepared, resized(fence(64, 100), 8, 8, way or "antialiased"))

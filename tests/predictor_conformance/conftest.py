"""The predictors that are held against the contract: one line each in `PREDICTORS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from examples.iris import MEASURES, rows_as_json
from Modelling.data_preparation import bundled_test_images, encode_npy
from Modelling.predict_cnn import DEFAULT_CHECKPOINT, load_classifier
from Modelling.predictor import Item, Predictor
from Modelling.predictors.images import ImagePredictor
from Modelling.predictors.own_python import OwnSource
from tests.modelling.foreign import colours_onnx, one_of_each_colour


@dataclass(frozen=True)
class UnderTest:
    """A predictor that is warmed up, and items for it."""

    predictor: Predictor
    good: list[Item]
    bad: Item


def keras(_folder: Path) -> UnderTest:
    predictor = ImagePredictor(load_classifier(DEFAULT_CHECKPOINT, threads=1), top=3)
    return UnderTest(predictor, digits(), Item(b"no image", {}))


def digits() -> list[Item]:
    return [Item(encode_npy(image), {}) for image in bundled_test_images()[0][:6]]


def onnx(folder: Path) -> UnderTest:
    classifier = load_classifier(colours_onnx(folder / "colours.onnx"), threads=1)
    images = [Item(encode_npy(image), {}) for image in one_of_each_colour()]
    return UnderTest(ImagePredictor(classifier), images * 2, Item(b"no image", {}))


def iris(_folder: Path) -> UnderTest:
    rows = json.loads(rows_as_json())["measures"][::30]
    good = [Item(json.dumps(dict(zip(MEASURES, row, strict=True))).encode(), {}) for row in rows]
    return UnderTest(own("examples.iris:Iris"), good, Item(b'{"sepal_length": "x"}', {}))


def sentiment(_folder: Path) -> UnderTest:
    texts = ("not bad at all", "awful", "a chair", "thanks, great", "never good")
    good = [Item(text.encode(), {}) for text in texts]
    return UnderTest(own("examples.sentiment:Sentiment"), good, Item(b"\xff", {}))


def own(name: str) -> Predictor:
    return OwnSource(name, None, 1).load(lambda: None)


PREDICTORS: dict[str, Callable[[Path], UnderTest]] = {
    "keras": keras,
    "onnx": onnx,
    "iris": iris,
    "sentiment": sentiment,
}


@pytest.fixture(scope="session", params=PREDICTORS)
def under_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[UnderTest]:
    found = PREDICTORS[request.param](tmp_path_factory.mktemp(request.param))
    found.predictor.warm_up()
    yield found
    found.predictor.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

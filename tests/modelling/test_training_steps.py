"""The steps of a training: how images are moved, weights rounded, and forms kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.network.compiling import compile_int8, loses_by_rounding
from Modelling.network.engine import LiteRTEngine
from Modelling.network.input_range import UNIT
from Modelling.network.keras_models import load_keras_model
from Modelling.training.augmentation import CLOTHES, Augmentation, augment
from Modelling.training.eight_bits import EightBitNetwork


@pytest.fixture(scope="module", autouse=True)
def _tensorflow() -> None:
    """Not at the top: each process that shares the tests reads this file, and few run it."""
    pytest.importorskip("tensorflow")


def distorted(images: np.ndarray, strength: Augmentation, seed: int = 1) -> np.ndarray:
    import tensorflow as tf

    given: np.ndarray = augment(tf.constant(images), tf.constant([seed, 2], tf.int64), strength)
    return np.asarray(given)


def test_clothes_are_moved_by_whole_pixels_and_keep_every_value() -> None:
    images = np.random.default_rng(1).random((64, 9, 7, 3), np.float32)
    moved = distorted(images, Augmentation(shift=2))
    framed = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    places = [(down, right) for down in range(5) for right in range(5)]
    found = np.array([(moved == framed[:, y : y + 9, x : x + 7]).all((1, 2, 3)) for y, x in places])
    assert found.any(0).all()
    assert found.any(1).sum() > 15  # of 25 places


def test_the_same_seed_distorts_alike_and_mirrors_half() -> None:
    images = np.random.default_rng(1).random((200, 8, 8, 1), np.float32)
    assert np.array_equal(distorted(images, CLOTHES), distorted(images, CLOTHES))
    assert not np.array_equal(distorted(images, CLOTHES), distorted(images, CLOTHES, 2))
    mirrored = distorted(images, Augmentation(mirror=True))
    kept = (mirrored == images).all((1, 2, 3))
    assert 70 < kept.sum() < 130
    assert np.array_equal(mirrored[~kept], images[~kept, :, ::-1])


def test_the_network_in_eight_bits_answers_as_litert_does(mnist: Any) -> None:
    network = load_keras_model(DEFAULT_CHECKPOINT)
    images = mnist[0][:500, ..., None].astype(np.float32) / np.float32(255)
    eight_bits = EightBitNetwork(network, images)
    eight_bits.leave_weights_on_grid()
    engine = LiteRTEngine(compile_int8(network, images), "compiled", input_range=UNIT)
    trained, served = np.asarray(eight_bits.trainable(network)(images)), engine.run(images)
    assert np.array_equal(trained.argmax(1), served.argmax(1))
    assert np.abs(trained - served).mean() < 0.001


@pytest.mark.parametrize(
    ("lost", "won", "expected"),
    [(0, 0, False), (1, 0, False), (4, 0, False), (5, 0, True), (9, 4, False), (20, 10, False),
     (25, 10, True), (10, 25, False)],
)  # fmt: skip
def test_the_8_bit_form_is_kept_unless_it_loses_more_than_chance_explains(
    lost: int, won: int, expected: bool
) -> None:
    both = [True] * 500
    exact = np.array(both + [True] * lost + [False] * won)
    rounded = np.array(both + [False] * lost + [True] * won)
    assert loses_by_rounding(exact, rounded) is expected

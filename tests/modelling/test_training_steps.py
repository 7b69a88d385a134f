"""The steps of a training: how images are moved, how weights are, and which are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.network.engine import LiteRTEngine
from Modelling.network.input_range import UNIT
from Modelling.network.keras_models import load_keras_model
from Modelling.quantise import compile_int8, loses_by_rounding
from Modelling.training.augmentation import CLOTHES, Augmentation, augment
from Modelling.training.eight_bits import EightBitNetwork, _rounded_activations

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


def distorted(images: np.ndarray, strength: Augmentation, seed: int = 1) -> np.ndarray:
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


class OneWeight(keras.layers.Layer):  # type: ignore[misc]
    """Answers its weight, whatever it is asked."""

    def build(self, _: Any) -> None:
        self.weight = self.add_weight(shape=(1,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return inputs * 0 + self.weight


def test_the_average_of_the_weights_is_validated_and_kept() -> None:
    from Modelling.training.averaging import WeightAverage

    model = keras.Sequential([keras.Input((1,)), OneWeight()])
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    taken: list[float] = []
    steps = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: taken.append(float(model.get_weights()[0][0]))
    )
    target = np.ones((8, 1), np.float32)
    fitted = model.fit(
        target, target, batch_size=2, epochs=2, verbose=0, shuffle=False,
        validation_data=(target, target), callbacks=[WeightAverage(4), steps],
    )  # fmt: skip
    # The steps go on from the weights, not from their average: each goes a tenth of what is left.
    assert np.allclose(taken, 1 - 0.9 ** np.arange(1, 9), atol=1e-5)
    average, averages = 0.0, []
    for number, weight in enumerate(taken, 1):
        kept = min(3 / 4, number / (number + 9))
        average = average * kept + weight * (1 - kept)
        averages.append(average)
    assert np.allclose(model.get_weights()[0], averages[-1], atol=1e-5)
    expected = [(1 - averages[3]) ** 2, (1 - averages[7]) ** 2]
    assert np.allclose(fitted.history["val_loss"], expected, atol=1e-5)


def test_in_the_end_images_are_normalised_by_the_statistics_of_images_as_they_are() -> None:
    from Modelling.training.averaging import settle_statistics

    network = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.BatchNormalization(momentum=0.9)]
    )
    images = np.random.default_rng(1).normal(4, 2, (1000, 2, 2, 3)).astype(np.float32)
    settle_statistics(network, images)
    _, _, means, variances = network.get_weights()
    assert np.allclose(means, images.mean((0, 1, 2)), atol=0.001)
    assert np.allclose(variances, images.var((0, 1, 2)), rtol=0.01)
    assert network.layers[0].momentum == 0.9
    settle_statistics(network, images[:10] + 1)
    assert np.allclose(network.get_weights()[2], images[:10].mean((0, 1, 2)) + 1, atol=0.001)


def test_the_quick_optimiser_goes_the_way_of_keras() -> None:
    from Modelling.training.optimiser import QuickAdamW, learning_rate

    rng = np.random.default_rng(1)
    start, gradients = rng.normal(size=(5, 3)), rng.normal(size=(6, 5, 3))
    ends = []
    for kind in (keras.optimizers.AdamW, QuickAdamW):
        variable = keras.Variable(start, dtype="float32")
        optimiser = kind(learning_rate(0.1, 2, 3), weight_decay=0.5)
        for gradient in gradients:
            optimiser.apply([tf.constant(gradient, tf.float32)], [variable])
        ends.append(np.asarray(variable))
    assert np.allclose(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(ends[0], start, atol=0.1)


def test_activations_are_rounded_to_256_steps_from_0_and_pass_gradients_between() -> None:
    given = tf.constant([-1.0, 0.0, 0.0019, 0.5, 1.0, 1.7])
    with tf.GradientTape() as tape:
        tape.watch(given)
        rounded = _rounded_activations(given, 1.0)
    assert np.allclose(rounded * 255, [0, 0, 0, 128, 255, 255], atol=1e-3)
    assert np.array_equal(tape.gradient(rounded, given), [0, 1, 1, 1, 1, 0])


def test_the_network_in_eight_bits_answers_as_litert_does(mnist: Any) -> None:
    network = load_keras_model(DEFAULT_CHECKPOINT)
    images = mnist[0][:500, ..., None].astype(np.float32) / np.float32(255)
    eight_bits = EightBitNetwork(network, images)
    eight_bits.leave_weights_on_grid()
    engine = LiteRTEngine(compile_int8(network, images), "compiled", input_range=UNIT)
    trained, served = np.asarray(eight_bits.trainable(network)(images)), engine.run(images)
    assert np.array_equal(trained.argmax(1), served.argmax(1))
    # Sums are of bfloat16 where the CPU has units for these.
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

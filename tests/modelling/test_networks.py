"""The networks that are trained: the form for it, the size, and what a training leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling import train_cnn
from Modelling.training.architecture import NETWORKS, build_cnn

MOST_WEIGHTS = 1_000_000

Mnist = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("keras")
def test_a_network_has_its_weights_in_the_same_order_while_it_is_trained(name: str) -> None:
    plain, quick = (build_cnn((28, 28, 1), 10, name, quick=each) for each in (False, True))
    assert plain.count_params() <= MOST_WEIGHTS
    assert [each.shape for each in plain.get_weights()] == [
        each.shape for each in quick.get_weights()
    ]
    quick.set_weights(plain.get_weights())
    images = np.random.default_rng(1).random((4, 28, 28, 1), np.float32)
    # Eight bits of mantissa, where the CPU has units for these.
    assert np.allclose(plain(images), quick(images), atol=0.01)


def test_the_quick_normalisation_is_that_of_keras(keras: Any) -> None:
    from Modelling.training.quick_layers import QuickNormalisation

    images = np.random.default_rng(1).normal(3, 2, (16, 5, 5, 4)).astype(np.float32)
    theirs, ours = keras.layers.BatchNormalization(), QuickNormalisation()
    assert np.allclose(theirs(images, training=True), ours(images, training=True), atol=1e-4)
    for one, other in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        # The variance that is kept is that of a sample: by one in 400 greater.
        assert np.allclose(one, other, rtol=0.003)
    assert np.allclose(theirs(images), ours(images), rtol=0.01, atol=0.01)


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name : x\nflags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx512_bf16\nbugs\t\t: amx_bf16\n", False),
    ],
)
def test_the_units_are_looked_up_among_the_flags(text: str, expected: bool, tmp_path: Path) -> None:
    from Modelling.training.quick_layers import has_amx

    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(text)
    assert has_amx(cpu_info) is expected
    assert not has_amx(tmp_path / "no such file")


@pytest.mark.timeout(450)  # a minute and more on a busy machine
def test_the_wide_network_is_trained_served_in_eight_bits_and_named_in_the_side_file(
    keras: Any, mnist: Mnist, tmp_path: Path
) -> None:
    images, classes = mnist[0][:160, ::2, ::2], mnist[1][:160]
    data, output = tmp_path / "few.npz", tmp_path / "few.h5"
    np.savez(data, x_train=images, y_train=classes, x_test=images, y_test=classes)
    arguments = ["--data", str(data), "--output", str(output), "--network", "wide"]
    assert train_cnn.main([*arguments, "--epochs", "1", "--batch-size", "32"]) == 0
    side = json.loads(output.with_suffix(".json").read_text())
    assert side["training"]["network"] == "wide"
    assert "float32" in side["engines"]
    opened = keras.saving.load_model(output, compile=False)
    assert {each.dtype_policy.name for each in opened.layers} == {"float32"}
    assert opened.count_params() > 400_000

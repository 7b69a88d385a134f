"""What the command line of `train_cnn` means, and what it may overwrite."""

from __future__ import annotations

from pathlib import Path

import pytest

from Modelling.checkpoint import DEFAULT_CHECKPOINT
from Modelling.training_options import EPOCHS, PLOTS, parse_options


def test_by_default_the_shipped_checkpoint_is_made_anew() -> None:
    options = parse_options([])
    assert options.output == DEFAULT_CHECKPOINT
    assert options.plots == PLOTS
    assert options.handwritten_digits


def test_data_of_ones_own_is_named_after_its_file_and_spares_the_shipped_checkpoint() -> None:
    options = parse_options(["--data", "pets/mine.npz"])
    assert options.output == DEFAULT_CHECKPOINT.with_name("mine_cnn_model.h5")
    assert options.plots == DEFAULT_CHECKPOINT.with_name("mine_cnn_model_plots")
    assert options.dataset == "mine"
    assert not options.handwritten_digits
    assert options.epochs == EPOCHS["mnist"]


def test_data_that_happens_to_be_called_mnist_spares_it_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--data", "mnist.npz"])
    assert "would replace the checkpoint" in capsys.readouterr().err
    assert not parse_options(["--data", "mnist.npz", "--output", "mine.h5"]).handwritten_digits


def test_digits_are_looked_for_only_if_mnist_was_asked_for_by_name() -> None:
    options = parse_options(["--data", "mnist.npz", "--dataset", "mnist"])
    assert options.handwritten_digits
    assert options.output == DEFAULT_CHECKPOINT
    assert not parse_options(["--dataset", "fashion_mnist"]).handwritten_digits
    assert not parse_options(
        ["--data", "mine.npz", "--dataset", "fashion_mnist"]
    ).handwritten_digits


def test_a_named_output_has_its_plots_beside_it() -> None:
    options = parse_options(["--data", "mine.npz", "--output", "out/pets.keras"])
    assert options.output == Path("out/pets.keras")
    assert options.plots == Path("out/pets_plots")

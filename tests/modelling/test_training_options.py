"""What the command line of `train_cnn` means, what it may overwrite, and how it is stopped."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling import predict_cnn, promote, quantise, train_cnn
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.training.options import EPOCHS, PLOTS, parse_options


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


def test_a_folder_that_cannot_be_written_is_named_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, classes = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    data = tmp_path / "mine.npz"
    np.savez(data, x_train=images, y_train=classes, x_test=images, y_test=classes)
    output = data / "mine.h5"  # a file is no folder, not even for root
    assert train_cnn.main(["--data", str(data), "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith(f"train_cnn: the folder {data} cannot be written: ")


def test_a_folder_is_no_checkpoint_and_that_is_told_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.h5").mkdir()
    with pytest.raises(SystemExit):
        parse_options(["--output", str(tmp_path / "mine.h5")])
    assert "is a folder, not a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module", "slow", "arguments"),
    [
        ("train_cnn", train_cnn, "load_dataset", ["--data", "mine.npz"]),
        ("predict_cnn", predict_cnn, "load_classifier", ["photo.png"]),
        ("quantise", quantise, "open_checkpoint", ["mine.keras"]),
        ("promote", promote, "open_checkpoint", ["mine.keras"]),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_ends_a_command_with_one_line(
    command: str,
    module: Any,
    slow: str,
    arguments: list[str],
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, slow, lambda *_, **__: signal.raise_signal(number))
    assert module.main(arguments) == 128 + number
    assert capsys.readouterr().err == f"\n{command}: broken off before its end\n"


def test_a_disk_without_room_for_a_checkpoint_is_told_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of a file's size stands for the disk: no mount is needed."""
    images, classes = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=classes, x_test=images, y_test=classes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        output = tmp_path / "new" / "mine.h5"
        told = train_cnn.main(["--data", str(tmp_path / "mine.npz"), "--output", str(output)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told == 2
    assert "new cannot be written: File too large" in capsys.readouterr().err
    assert not list(output.parent.iterdir())

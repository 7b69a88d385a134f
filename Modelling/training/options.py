"""The command line of `train_cnn.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from DurableText.installation.command_line import command_parser
from DurableText.installation.places import state_folder
from DurableText.program.option_types import count, number, path_name, probability
from Modelling.network.checkpoint import CHECKPOINT_SUFFIXES, DEFAULT_CHECKPOINT
from Modelling.training.architecture import NETWORKS
from Modelling.training.data_files import name_of
from Modelling.training.datasets import LABELS

# On MNIST more are no better: 30 gave, over three seeds, what 10 gave. Clothes take longer.
EPOCHS = {"mnist": 10, "fashion_mnist": 24}

BATCH_SIZE = 128
SEED = 1

# Share of the training images that chooses the epoch: 3,000 of 60,000.
VALIDATION_RATIO = 0.05

# Where a checkpoint and its plots go that nobody named another place for.
OUTPUT = state_folder() / "Modelling" / "model_checkpoints" / DEFAULT_CHECKPOINT.name
PLOTS = OUTPUT.parents[1] / "plots"


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        dataset: `mnist`, `fashion_mnist`, or the stem of `data`.
        data: The file to train on; None for the download.
        handwritten_digits: Whether MNIST was meant: only then are images that come later to be
            set as MNIST's were.
        network: One of `architecture.NETWORKS`.
        outliers: How many images without a class a batch gets, as a share of it.
        start_from: The checkpoint whose network is trained on; None for a new one.
    """

    dataset: str
    data: Path | None
    handwritten_digits: bool
    epochs: int
    batch_size: int
    seed: int
    output: Path
    plots: Path
    validation_ratio: float
    network: str
    outliers: float
    start_from: Path | None


def parse_options(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = command_parser(
        "python -m Modelling.train_cnn",
        description="Train the image classifier and write its checkpoint.",
    )
    parser.add_argument(
        "--dataset", choices=tuple(LABELS),
        help="what to train on (default: mnist), or, with --data, what it is most like: that "
        "decides how images are distorted, and for mnist that digits are looked for on them",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=path_name, metavar="FILE",
        help="a .npz with x_train, y_train, x_test, y_test (and labels), a .csv with the class and "
        "the pixels of an image in each row, or MNIST's idx-ubyte files (or their folder), instead "
        "of a download; .gz, too",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=count, metavar="N",
        help="at most, before those in 8 bits (default: "
        + ", ".join(f"{epochs} for {name}" for name, epochs in EPOCHS.items()) + ")",
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=count, default=BATCH_SIZE, metavar="N",
        help="images a step (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=seed_number, default=SEED, metavar="N",
        help="the same seed gives the same network on the same machine (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_name, metavar="FILE.h5",
        help="the checkpoint to write, .h5 or .keras; its plots go to a folder beside it "
        f"(default: {OUTPUT.parent}/<dataset or data>_cnn_model.h5)",
    )  # fmt: skip
    parser.add_argument(
        "--validation-ratio", type=share, default=VALIDATION_RATIO, metavar="R",
        help="share of the training images that chooses the epoch (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--network", choices=tuple(NETWORKS), default="small",
        help="wide is for what has texture, clothes say: 2.4 times the weights, and three to "
        "four times the time that an image takes (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--outliers", type=probability, default=0.0, metavar="R",
        help="also show images of no class, drawn or put together from pieces, so that the "
        "network is unsure of such: how many for each training image, 0 to 1 (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", type=path_name, metavar="FILE.h5",
        help="train on from this checkpoint of the same network, slowly, in place of a new one",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    stem: str = name_of(chosen.data) if chosen.data else chosen.dataset or "mnist"
    output: Path = chosen.output or OUTPUT.with_name(f"{stem}_cnn_model.h5")
    if output.suffix not in CHECKPOINT_SUFFIXES:
        parser.error(f"--output {output}: the checkpoint's name must end in .h5 or .keras")
    if output.is_dir():
        parser.error(f"--output {output} is a folder, not a file")
    own = output.resolve() == OUTPUT
    if own and chosen.data and not (chosen.dataset or chosen.output):
        parser.error(
            f"--data {chosen.data} would replace the checkpoint {output.name} of MNIST's digits: "
            "add --dataset mnist if that is what it holds, or choose another --output"
        )
    plots = PLOTS if own else output.parent / f"{output.stem}_plots"
    return Options(
        dataset=chosen.dataset or stem,
        data=chosen.data,
        handwritten_digits=(chosen.dataset or ("" if chosen.data else "mnist")) == "mnist",
        epochs=chosen.epochs or EPOCHS.get(chosen.dataset or stem, EPOCHS["mnist"]),
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        output=output,
        plots=plots,
        validation_ratio=chosen.validation_ratio,
        network=chosen.network,
        outliers=chosen.outliers,
        start_from=chosen.start_from,
    )


def seed_number(text: str) -> int:
    """Read a seed, in the range that NumPy and TensorFlow take."""
    return number(text, int, f"a number from 0 to {2**32 - 1:,}", lambda value: 0 <= value < 2**32)


def share(text: str) -> float:
    """Read an option between 0 and 1."""
    return number(text, float, "a number between 0 and 1", lambda value: 0 < value < 1)

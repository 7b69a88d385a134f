"""The table of Keras versions and architectures in docs/keras_versions.md, each cell run.

    python benchmarks/keras_versions/make.py FOLDER      with each Keras, in its own environment
    python -m benchmarks.keras_versions FOLDER           here: loads all, and writes the table
    python -m benchmarks.keras_versions FOLDER NAME ...  these rows; the table once it is whole

A cell says for `.h5` and `.keras` whether the file is loaded and answers as it did.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from Modelling.errors import CheckpointError
from Modelling.network.keras_models import load_keras_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keras_versions.md"

# How far answers may be apart; of half precision, other kernels round in another order.
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.02

SUFFIXES = (".h5", ".keras")
OK = "ok"

HEAD = """# Checkpoints of other versions of Keras

Each cell was run: the file was saved by that Keras with `benchmarks/keras_versions/make.py`, loaded
with Keras {keras}, and answered as it did when it was saved. `h5` and `keras` are the formats that
are; a format that is missing there is not written by that Keras, and at `-` that Keras has no such
model, or does not save it. Half precision (`mixed`) may differ by 0.02, all else by 0.0001. Written
by `python -m benchmarks.keras_versions`.

"""


def outcome(file: Path, images: np.ndarray) -> str:
    """`OK`, or what is wrong."""
    try:
        model = load_keras_model(file)
        answers = np.asarray(model(images, training=False))
    except CheckpointError as error:
        return f"refused: {error}"
    tolerance = HALF_TOLERANCE if "mixed" in file.stem else TOLERANCE
    expected = np.load(file.with_suffix(".npy"))
    return OK if np.abs(answers - expected).max() < tolerance else "differs"


def run_row(folder: Path, name: str, versions: list[str]) -> None:
    """Run the cells of one architecture, and keep what came of them."""
    images = np.load(folder / "images.npy")
    row: dict[str, dict[str, str]] = {}
    for version in versions:
        for suffix in SUFFIXES:
            file = folder / version / f"{name}{suffix}"
            if file.exists() and file.with_suffix(".npy").exists():
                found = outcome(file, images).replace(str(folder), "")
                row.setdefault(version, {})[suffix] = found
    (folder / f"{name}.json").write_text(json.dumps(row))
    print(name, row, flush=True)


def page(folder: Path, names: list[str], versions: list[str]) -> str:
    """Put together the rows that were run."""
    import keras

    lines = [f"| | {' | '.join(versions)} |", f"| --- |{' --- |' * len(versions)}"]
    troubles = []
    for name in names:
        row = json.loads((folder / f"{name}.json").read_text())
        cells = []
        for version in versions:
            found = row.get(version, {})
            troubles += [
                f"- {version} {name}{end}: {found[end]}" for end in found if found[end] != OK
            ]
            cells.append(
                ", ".join(end[1:] if found[end] == OK else f"**not {end[1:]}**" for end in found)
            )
        lines.append(f"| {name} | {' | '.join(each or '-' for each in cells)} |")
    text = HEAD.format(keras=keras.__version__) + "\n".join([*lines, "", *troubles])
    return text.rstrip() + "\n"


def main(folder: Path, only: list[str]) -> None:
    versions = sorted(
        (each.name for each in folder.iterdir() if each.is_dir()),
        key=lambda name: [int(part) for part in name.split(".")],
    )
    names = sorted({file.stem for version in versions for file in (folder / version).glob("*.npy")})
    for name in only or names:
        run_row(folder, name, versions)
    if all((folder / f"{name}.json").exists() for name in names):
        PAGE.write_text(page(folder, names, versions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

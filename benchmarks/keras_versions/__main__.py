"""The table of Keras versions and architectures in docs/keras_versions.md, each cell run.

    python benchmarks/keras_versions/make.py FOLDER      with each Keras, in its own environment
    python -m benchmarks.keras_versions FOLDER           here: loads all, and writes the table

A cell says for `.h5` and `.keras` whether the file is loaded and answers as it did.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from Modelling.errors import CheckpointError
from Modelling.network.keras_models import load_keras_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keras_versions.md"

# How far answers may be apart; of half precision, other kernels round in another order.
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-3

HEAD = """# Checkpoints of other versions of Keras

Each cell was run: the file was saved by that Keras with `benchmarks/keras_versions/make.py`, loaded
with Keras {keras}, and answered as it did when it was saved. `h5` and `keras` are the formats that
are; a format that is missing there is not written by that Keras, `-` was not made. Written by
`python -m benchmarks.keras_versions`.

"""


def outcome(file: Path, images: np.ndarray) -> str:
    """`ok`, or what is wrong."""
    try:
        model = load_keras_model(file)
        answers = np.asarray(model(images, training=False))
    except CheckpointError as error:
        return f"refused: {error}"
    tolerance = HALF_TOLERANCE if "mixed" in file.stem else TOLERANCE
    expected = np.load(file.with_suffix(".npy"))
    return "ok" if np.abs(answers - expected).max() < tolerance else "differs"


def main(folder: Path) -> None:
    import keras

    images = np.load(folder / "images.npy")
    versions = sorted(
        (each.name for each in folder.iterdir() if each.is_dir()),
        key=lambda name: [int(part) for part in name.split(".")],
    )
    names = sorted({file.stem for version in versions for file in (folder / version).glob("*.npy")})
    lines = [f"| | {' | '.join(versions)} |", f"| --- |{' --- |' * len(versions)}"]
    troubles = []
    for name in names:
        cells = []
        for version in versions:
            cell = []
            for suffix in (".h5", ".keras"):
                file = folder / version / f"{name}{suffix}"
                if not (file.exists() and file.with_suffix(".npy").exists()):
                    continue
                result = outcome(file, images)
                if result == "ok":
                    cell.append(suffix[1:])
                else:
                    cell.append(f"**not {suffix[1:]}**")
                    troubles.append(f"- {version} {file.name}: {result.replace(str(folder), '')}")
            cells.append(", ".join(cell) or "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    text = HEAD.format(keras=keras.__version__) + "\n".join([*lines, "", *troubles])
    PAGE.write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

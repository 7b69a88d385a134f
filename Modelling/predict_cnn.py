"""Predict what is on images, with a checkpoint of any Keras image classifier.

python -m Modelling.predict_cnn photo.jpg scan.png
python -m Modelling.predict_cnn --show out.png photo.jpg
python -m Modelling.predict_cnn --checkpoint mine.keras photo.jpg

classifier = load_classifier("Modelling/model_checkpoints/mnist_cnn_model.h5")
pixels, errors = classifier.prepare_batch([open("photo.jpg", "rb").read()])
print(classifier.predict(pixels).labels)
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # python Modelling/predict_cnn.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import io
from collections.abc import Sequence

from DurableText.installation.command_line import command_parser
from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from DurableText.program.option_types import path_name
from DurableText.program.wording import printable
from Modelling.classifier import Classifier, Predictions, load_classifier
from Modelling.cores import threads_option
from Modelling.data_preparation import decode_image, visible_files
from Modelling.errors import CheckpointError, ImageError, UnpredictableError
from Modelling.images.decoding import IMAGE_SUFFIXES, MAX_PIXELS
from Modelling.images.show import MAX_IMAGES, Row, draw_predictions
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.network.declared_size import add_max_model_bytes
from Modelling.network.input_range import input_range_option

__all__ = [
    "DEFAULT_CHECKPOINT",
    "CheckpointError",
    "Classifier",
    "ImageError",
    "Predictions",
    "load_classifier",
]

# As many pixels as an image may have, in the widest array of them; a device has no end.
MAX_FILE_BYTES = 32 * MAX_PIXELS

# Pixels of the longer side, at least, with which an image is drawn by --show.
SHOWN_SIDE = 300


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = command_parser(
        "python -m Modelling.predict_cnn", description="Predict what is on images."
    )
    parser.add_argument(
        "images", nargs="+", type=path_name, metavar="IMAGE", help="files, and folders of them"
    )
    parser.add_argument("--checkpoint", type=path_name, default=DEFAULT_CHECKPOINT)
    parser.add_argument(
        "--show", type=path_name, metavar="OUT.png",
        help="draw each image as given, as the model sees it, and the class probabilities",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=threads_option, metavar="N", help="CPU threads (default: all cores)"
    )
    parser.add_argument(
        "--allow-code", action="store_true",
        help="load models whose layers carry code; only for files you made yourself",
    )  # fmt: skip
    parser.add_argument(
        "--input-range", type=input_range_option, metavar="LOW,HIGH",
        help="what black and white are for the model, as in 0,255 (default: as its side file "
        "says, else as the model shows)",
    )  # fmt: skip
    add_max_model_bytes(parser)
    options = parser.parse_args(arguments)
    if options.show:
        from Modelling.training.plots import picture_format

        try:
            picture_format(options.show)
        except ValueError as error:
            parser.error(f"--show {error}")
    # A file's name may hold bytes that are no text; they are shown escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    interrupts = Interrupts()
    try:
        with interrupts:
            classifier = load_classifier(
                options.checkpoint,
                threads=options.threads,
                allow_code=options.allow_code,
                input_range=options.input_range,
                max_bytes=options.max_model_bytes,
            )
            return _predict_files(classifier, image_files(options.images), options.show)
    except CheckpointError as error:
        print(f"predict_cnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npredict_cnn: {BROKEN_OFF}", file=sys.stderr)
        return interrupts.exit_code


def image_files(paths: Sequence[Path]) -> list[Path]:
    """List the given files, and in place of a folder the images in it, at any depth."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = [file for file in visible_files(path) if file.suffix.lower() in IMAGE_SUFFIXES]
            files += found or [path]
        else:
            files.append(path)
    return files


def _predict_files(classifier: Classifier, files: Sequence[Path], show: Path | None) -> int:
    width = min(40, max(len(printable(str(file))) for file in files))
    print(f"{classifier.version}\n{'image':{width}}  {'label':12} {'confidence':>10}")
    rows: list[Row] = []
    predicted = 0
    for file in files:
        name = printable(str(file))
        try:
            data = _read(file)
            pixels = classifier.prepare(data)
            probabilities = classifier.probabilities(pixels[None])[0]
        except IsADirectoryError:
            print(f"{name:{width}}  not predicted: a folder without images")
            continue
        except (OSError, ImageError, UnpredictableError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            print(f"{name:{width}}  not predicted: {reason}")
            continue
        predicted += 1
        best = int(probabilities.argmax())
        print(f"{name:{width}}  {classifier.labels[best]:12} {probabilities[best]:10.2%}")
        if show and len(rows) < MAX_IMAGES:
            given = decode_image(data, enough=SHOWN_SIDE, proportional=True)
            rows.append(Row(file.name, given, pixels, probabilities))
    if show and rows and not _draw(rows, classifier.labels, show):
        return 1
    return 0 if predicted == len(files) else 1


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"file of more than {MAX_FILE_BYTES:,} bytes")
    return data


def _draw(rows: Sequence[Row], labels: Sequence[str], show: Path) -> bool:
    try:
        draw_predictions(rows, labels, show)
    except OSError as error:
        print(f"predict_cnn: {show} cannot be written: {error.strerror}", file=sys.stderr)
        return False
    print(f"drawn: {show}")
    return True


if __name__ == "__main__":
    sys.exit(main())

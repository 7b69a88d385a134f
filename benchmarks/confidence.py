"""Do confidences mean what they say, and are they low where there is no digit?

python -m benchmarks.confidence
python -m benchmarks.confidence --other fashion_mnist.npz --checkpoint mine.h5
python -m benchmarks.confidence --by-letter

The digits are the 10,000 test images of MNIST. The threshold is the confidence below which 0.5 % of
them are; what is below it is marked, as `--min-confidence` marks results. Of each kind of picture
that shows no digit the table tells how many are marked: arrays as they are given to the network,
pictures sent through the preparation, which refuses some (`refused`: "no digit found").
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.no_digits import LETTERS, LIKE_DIGITS, dirty_paper, letter, noise
from Modelling.data_preparation import bundled_test_images
from Modelling.images.decoding_pool import DecodingPool
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predict_cnn import Classifier, load_classifier
from Modelling.training.calibration import calibration_error
from Modelling.training.data_files import read_data

# Share of the digits that may be marked.
LOST = 0.005

SEED = 3


def threshold_of(confidences: np.ndarray) -> float:
    """The confidence below which the share `LOST` of the digits is."""
    return float(np.sort(confidences)[round(LOST * len(confidences))])


def confidences_of(images: np.ndarray, classifier: Classifier) -> np.ndarray:
    """What the network makes of (N, H, W) or (N, H, W, C) uint8, as they are."""
    pixels = images.reshape(-1, *classifier.input_shape).astype(np.float32) / np.float32(255)
    return classifier.predict(pixels).confidences


def tell(kind: str, confidences: np.ndarray, refused: int, threshold: float) -> None:
    """Print a row of the table."""
    count = len(confidences) + refused
    marked = int((confidences < threshold).sum())
    print(
        f"{kind:28} {count:7,} {refused / count:9.2%} {marked / count:9.2%} "
        f"{(refused + marked) / count:9.2%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confidence", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--engine", help="int8, float32 or tensorflow (default: the fastest)")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="drawn of each kind")
    parser.add_argument(
        "--other", type=Path, action="append", default=[], metavar="FILE",
        help="a data set whose test images show no digit, in any form that train_cnn reads",
    )  # fmt: skip
    parser.add_argument(
        "--by-letter", action="store_true", help="a row for each letter, --count / 10 of it"
    )
    options = parser.parse_args()
    with DecodingPool() as decoders:
        classifier = load_classifier(options.checkpoint, engine=options.engine, decoders=decoders)
        images, digits = bundled_test_images()
        pixels = (images / np.float32(255)).reshape(-1, *classifier.input_shape)
        probabilities = classifier.probabilities(pixels.astype(np.float32))
        confidences = probabilities.max(1)
        threshold = threshold_of(confidences)
        print(f"{classifier.version}, {classifier.engine}")
        print(f"digits right                {(probabilities.argmax(1) == digits).mean():.2%}")
        print(f"mean confidence             {confidences.mean():.2%}")
        print(f"expected calibration error  {calibration_error(probabilities, digits):.2%}")
        print(f"threshold                   {threshold:.4f}, {LOST:.1%} of the digits are below\n")
        print(f"{'kind':28} {'count':>7} {'refused':>9} {'unsure':>9} {'both':>9}")
        tell("digits", confidences, 0, threshold)
        for file in options.other:
            others = read_data(file)["x_test"]
            tell(f"{file.stem}, arrays", confidences_of(others, classifier), 0, threshold)
        rng = np.random.default_rng(SEED)
        drawn = np.stack([noise(rng, classifier.input_shape) for _ in range(10_000)])
        tell("uniform noise, arrays", confidences_of(drawn, classifier), 0, threshold)
        kinds = pictures(options.count)
        if options.by_letter:
            kinds |= by_letter(max(1, options.count // 10))
        for kind, datas in kinds.items():
            prepared, errors = classifier.prepare_batch(datas)
            found = classifier.predict(prepared).confidences
            refused = sum(error is not None for error in errors)
            tell(kind, found, refused, threshold)


def pictures(count: int) -> dict[str, list[bytes]]:
    """Draw what goes through the preparation."""
    rngs = [np.random.default_rng([SEED, number]) for number in range(count)]
    return {
        "blank but dirty paper": [dirty_paper(rng) for rng in rngs],
        "letters": [letter(LETTERS[n % len(LETTERS)], rng) for n, rng in enumerate(rngs)],
        f"letters like digits ({LIKE_DIGITS})": [
            letter(LIKE_DIGITS[n % len(LIKE_DIGITS)], rng) for n, rng in enumerate(rngs)
        ],
    }


def by_letter(count: int) -> dict[str, list[bytes]]:
    """Draw each letter, to see which are digits to whoever expects one."""
    return {
        f"letter {shown}": [
            letter(shown, np.random.default_rng([SEED, ord(shown), number]))
            for number in range(count)
        ]
        for shown in sorted(LETTERS + LIKE_DIGITS)
    }


if __name__ == "__main__":
    main()

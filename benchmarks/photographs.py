"""What becomes of photographed digits: how many are right, scene by scene, how many surely wrong.

python -m benchmarks.photographs                    on digits that nothing was tuned on
python -m benchmarks.photographs --tuning           on those that may be looked at while tuning
python -m benchmarks.photographs --only shadow --wrong folder    keep what is wrong, to look at it

The scenes are drawn (see `scenes`), each from its own seed. A picture ends as right, as refused
(no digit is found on it), as wrong, or as surely wrong: above 90 % confidence. Then the same scenes
without a digit, of which each answer is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scenes import BOTH, EASY, HARD, Scene
from Modelling.data_preparation import bundled_test_images
from Modelling.images.decoding_pool import DecodingPool
from Modelling.predict_cnn import Classifier, load_classifier

# Of the 10,000 test images: the first half may be looked at, the second half is reported.
TUNING, REPORTED = slice(0, 5000), slice(5000, 10_000)
SEEDS = {"tuning": 1, "reported": 3}

SURE = 0.9


@dataclass(frozen=True)
class Outcome:
    """Shares of the pictures of a scene, and the numbers of those that are wrong."""

    right: float
    refused: float
    wrong: float
    surely_wrong: float
    failures: list[int]


def pictures_of(scene: Scene, count: int, *, tuning: bool) -> tuple[list[bytes], np.ndarray]:
    """Draw a scene for so many digits."""
    images, digits = bundled_test_images()
    part = TUNING if tuning else REPORTED
    seed = SEEDS["tuning" if tuning else "reported"]
    chosen = np.random.default_rng([seed, 0]).permutation(5000)[:count]
    datas = [
        scene(image, np.random.default_rng([seed, number]))
        for number, image in enumerate(images[part][chosen])
    ]
    return datas, digits[part][chosen]


def outcome_of(datas: list[bytes], digits: np.ndarray, classifier: Classifier) -> Outcome:
    """Send pictures through the preparation and the model."""
    prepared, errors = classifier.prepare_batch(datas)
    predicted = classifier.predict(prepared)
    good = np.array([error is None for error in errors])
    right = predicted.class_indices == digits[good]
    sure = predicted.confidences > SURE
    count = len(datas)
    return Outcome(
        right.sum() / count,
        (~good).sum() / count,
        (~right).sum() / count,
        (~right & sure).sum() / count,
        sorted([*np.flatnonzero(good)[~right].tolist(), *np.flatnonzero(~good).tolist()]),
    )


def without_digit(
    scene: Scene, seeds: Sequence[tuple[int, int]], classifier: Classifier
) -> Outcome:
    """Draw a scene for a digit that nobody can see; every answer is wrong."""
    speck = np.zeros((28, 28), np.uint8)
    speck[14, 14] = 1
    datas = [scene(speck, np.random.default_rng(seed)) for seed in seeds]
    return outcome_of(datas, np.full(len(datas), -1), classifier)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument("--count", type=int, default=400, metavar="N", help="digits for each scene")
    parser.add_argument("--tuning", action="store_true", help="on the digits for tuning")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenes whose name holds it")
    parser.add_argument("--wrong", type=Path, metavar="FOLDER", help="where failures are kept")
    options = parser.parse_args()
    with DecodingPool() as decoders:
        classifier = load_classifier(decoders=decoders)
        seed = SEEDS["tuning" if options.tuning else "reported"]
        print(f"{'scene':24} {'right':>7} {'refused':>8} {'wrong':>7} {'surely wrong':>13}")
        for name, scene in (HARD | BOTH | EASY).items():
            if options.only not in name:
                continue
            datas, digits = pictures_of(scene, options.count, tuning=options.tuning)
            outcome = outcome_of(datas, digits, classifier)
            show(name, outcome)
            if options.wrong:
                options.wrong.mkdir(parents=True, exist_ok=True)
                for number in outcome.failures:
                    file = f"{name.replace(' ', '_')}_{number}_{digits[number]}.jpg"
                    (options.wrong / file).write_bytes(datas[number])
        print("without a digit")
        for name, scene in (HARD | BOTH).items():
            if options.only in name:
                seeds = [(seed, 10_000 + number) for number in range(options.count)]
                show(name, without_digit(scene, seeds, classifier))


def show(name: str, outcome: Outcome) -> None:
    print(
        f"{name:24} {outcome.right:7.2%} {outcome.refused:8.2%} {outcome.wrong:7.2%} "
        f"{outcome.surely_wrong:13.2%}",
        flush=True,
    )


if __name__ == "__main__":
    main()

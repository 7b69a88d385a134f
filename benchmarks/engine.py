"""How fast a checkpoint runs, by way of running it, beside the plain network of the textbooks.

python -m benchmarks.engine                       the shipped checkpoint
python -m benchmarks.engine --checkpoint mine.keras
python -m benchmarks.engine --onnx mine.onnx      ONNX Runtime too, if it is installed

All ways take turns, round by round, and medians are compared: a machine that other work slows down
slows all of them. The results go to `benchmarks/results/engine.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from Modelling.data_preparation import bundled_test_images, encode_npy
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, open_checkpoint
from Modelling.network.compiling import compile_float32, compile_int8
from Modelling.network.engine import LiteRTEngine, TensorFlowEngine, load_keras_model, open_engine
from Modelling.predict_cnn import Classifier

RESULTS = Path(__file__).resolve().parent / "results" / "engine.json"

BATCH_SIZES = (1, 8, 32, 64, 256, 1024)
# Seconds that one way runs in one round.
SLICE = 0.12
# The yardstick of accuracy's price: two convolutions and a dense layer, 243,786 weights.
PLAIN = "plain network, "

Run = Callable[[np.ndarray], Any]
Table = dict[str, dict[int, "Figures"]]


def plain_network() -> Any:
    """The network of most MNIST tutorials, untrained."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def ways(path: Path, onnx: Path | None, images: np.ndarray) -> dict[str, Run]:
    """All ways to run the checkpoint, by name."""
    cores = os.cpu_count() or 1
    checkpoint = open_checkpoint(path)
    model = load_keras_model(path)
    found: dict[str, Run] = {
        "Keras model.predict": lambda batch: model.predict(batch, batch_size=256, verbose=0),
        "Keras model(x)": lambda batch: np.asarray(model(batch, training=False)),
        "tf.function, concrete": TensorFlowEngine(model).run,
    }
    for name in ("float32", "int8"):
        for threads in sorted({1, cores}):
            try:
                engine = open_engine(checkpoint, engine=name, threads=threads)
            except CheckpointError:
                continue
            found[f"LiteRT {name}, {threads} thread{'s' * (threads > 1)}"] = engine.run
    if onnx is not None:
        for threads in sorted({1, cores}):
            found[f"ONNX Runtime float32, {threads} thread{'s' * (threads > 1)}"] = _onnx(
                onnx, threads
            )
    if images.shape[1:] == (28, 28, 1):
        plain = plain_network()
        found[PLAIN + "LiteRT float32, 1 thread"] = LiteRTEngine(
            compile_float32(plain), "float32", 1
        ).run
        found[PLAIN + "LiteRT int8, 1 thread"] = LiteRTEngine(
            compile_int8(plain, images[:200]), "int8", 1
        ).run
    return found


def _onnx(file: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


@dataclass(frozen=True)
class Figures:
    """One way at one batch size."""

    images_per_second: float
    cpu_microseconds: float
    """Of all cores together, for one image; hardly touched by what else the machine does."""


def run_for_a_slice(run: Run, batch: np.ndarray) -> Figures:
    """Run one way for a slice of time, at least twice."""
    calls, started, cpu_started = 0, time.perf_counter(), time.process_time()
    while calls < 2 or time.perf_counter() - started < SLICE:
        run(batch)
        calls += 1
    images = calls * len(batch)
    return Figures(
        images / (time.perf_counter() - started),
        (time.process_time() - cpu_started) / images * 1e6,
    )


def measure(found: dict[str, Run], images: np.ndarray, rounds: int) -> Table:
    """Medians, by way and batch size."""
    taken: dict[str, dict[int, list[Figures]]] = {
        name: {size: [] for size in BATCH_SIZES} for name in found
    }
    for name, run in found.items():  # each batch size once, before the clock counts
        for size in BATCH_SIZES:
            run(images[:size])
        print(f"warm: {name}", flush=True)
    for _ in range(rounds):
        for size in BATCH_SIZES:
            for name, run in found.items():
                taken[name][size].append(run_for_a_slice(run, images[:size]))
    return {
        name: {
            size: Figures(
                statistics.median(each.images_per_second for each in figures),
                statistics.median(each.cpu_microseconds for each in figures),
            )
            for size, figures in sizes.items()
        }
        for name, sizes in taken.items()
    }


def preparation_costs(path: Path, rounds: int) -> dict[str, float]:
    """Return the microseconds (p50) to make an MNIST image's bytes into the model's input."""
    checkpoint = open_checkpoint(path)
    classifier = Classifier(checkpoint, open_engine(checkpoint, threads=1))
    images, _ = bundled_test_images()

    def encoded(image: np.ndarray, file_format: str) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, file_format)
        return buffer.getvalue()

    def enlarged(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))

    kinds: dict[str, tuple[int, list[bytes]]] = {
        "28x28 .npy, in batches of 256": (256, [encode_npy(image) for image in images[:2560]]),
        "28x28 .npy, one by one": (1, [encode_npy(image) for image in images[:1000]]),
        "28x28 PNG": (1, [encoded(image, "PNG") for image in images[:500]]),
        "28x28 PNG, dark on light": (1, [encoded(255 - image, "PNG") for image in images[:500]]),
        "280x280 PNG": (1, [encoded(enlarged(image), "PNG") for image in images[:100]]),
        "280x280 JPEG": (1, [encoded(enlarged(image), "JPEG") for image in images[:100]]),
    }
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, (size, datas) in kinds.items():
            for start in range(0, len(datas), size):
                started = time.perf_counter()
                classifier.prepare_batch(datas[start : start + size])
                costs[kind].append((time.perf_counter() - started) / size * 1e6)
    return {kind: statistics.median(values) for kind, values in costs.items()}


def print_table(table: Table, costs: dict[str, float]) -> None:
    """Print speed and CPU time by batch size, and the costs of preparation."""
    heads = "".join(f"{size:>9}" for size in BATCH_SIZES)
    print(f"\n{'images/s at batch size':42}{heads}")
    for name, sizes in table.items():
        cells = "".join(f"{sizes[size].images_per_second:9,.0f}" for size in BATCH_SIZES)
        print(f"{name:42}{cells}")
    print(f"\n{'CPU microseconds an image at batch size':42}{heads}")
    for name, sizes in table.items():
        cells = "".join(f"{sizes[size].cpu_microseconds:9,.1f}" for size in BATCH_SIZES)
        print(f"{name:42}{cells}")
    print()
    for name, ratio in ratios(table).items():
        print(f"{name}: {ratio:.2f}")
    print("\npreparing one image, microseconds (p50)")
    for kind, cost in costs.items():
        print(f"{kind:42}{cost:9,.1f}")


def ratios(table: Table) -> dict[str, float]:
    """The ways that serve against the bare model at its best, and against the plain network."""
    compared = {}
    bare = max(each.images_per_second for each in table["tf.function, concrete"].values())
    for name, sizes in table.items():
        if name.startswith("LiteRT"):
            best = max(each.images_per_second for each in sizes.values())
            compared[f"{name} / tf.function, images/s"] = best / bare
        if PLAIN + name in table:
            plain = table[PLAIN + name]
            compared[f"{name} / plain network on it, images per CPU second"] = statistics.median(
                plain[size].cpu_microseconds / sizes[size].cpu_microseconds for size in BATCH_SIZES
            )
    return compared


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--onnx", type=Path, metavar="FILE.onnx")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    shape = open_engine(open_checkpoint(options.checkpoint)).input_shape
    if shape == (28, 28, 1):
        images = bundled_test_images()[0][: max(BATCH_SIZES), ..., None] / np.float32(255)
    else:
        images = np.random.default_rng(0).random((max(BATCH_SIZES), *shape), np.float32)
    images = images.astype(np.float32)
    table = measure(ways(options.checkpoint, options.onnx, images), images, options.rounds)
    costs = preparation_costs(options.checkpoint, options.rounds) if shape == (28, 28, 1) else {}
    print_table(table, costs)
    results = {
        "benchmark": "engine",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "model": open_checkpoint(options.checkpoint).version,
        "ways": {
            name: {size: asdict(figures) for size, figures in sizes.items()}
            for name, sizes in table.items()
        },
        "ratios": ratios(table),
        "preparation_microseconds": costs,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.output.name}")


if __name__ == "__main__":
    main()

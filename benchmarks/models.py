"""Image models of 224x224 in ONNX and Keras: the pipeline against the bare engine, side by side.

    python -m benchmarks.models                     both kinds and sizes, on the embedded broker
    python -m benchmarks.models --kind onnx --broker kafka
    python -m benchmarks.models --convolutions 3        only as much as a ResNet-18

The same network runs as an ONNX file (ONNX Runtime) and as a Keras file with its compiled form
(LiteRT): one of 0.25 billion multiplications, where the network takes little more than the picture
itself, and one as much as a ResNet-18. The bare engine is the runtime itself, without anything of
ours: it predicts arrays that are ready, with all cores and nothing else running, at its best batch
size, ONNX Runtime with threads that spin, that sleep, that wait as ours, and with pictures side by
side. Which of these ways is the best is tried first, and then it is measured anew: the best of a
dozen measurements is the luckiest too. The pipeline is given the same pictures as arrays, or with
`--as jpeg` as files that have to be decoded. Both take turns, so that the ratio holds on a machine
whose speed drifts; CPU time per image stands beside it, of the server and of all four scripts, but
for what `app_1` takes before its first image. One at a time: the mean of the middle half from
received to predicted, and from published to stored, against that of the bare call for one, as often
a second.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.percentiles import medians, middle
from benchmarks.pipeline import Running, latencies_of, throughput
from DurableText.moments import seconds_of
from Modelling.cores import available_cores
from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import (
    RESIZE,
    EngineFile,
    SideFile,
    engine_path,
    sha256_of,
    write_side_file,
)
from Modelling.network.compiling import compile_float32
from Modelling.network.input_range import UNIT
from tests.brokers.harness import BROKERS, BrokerUnderTest
from tests.modelling.foreign import exported
from tests.pipeline.runner import Pipeline, Script

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "models.json"

SIDE, CLASSES = 224, 10
PICTURES = 64
# A second, of the pipeline and of the bare call alike: what has not run for long runs on cold
# caches and sleeping cores. The light network's call takes 2.9 ms 20 times a second, 3.6 at 4.
ONE_AT_A_TIME, RATE = 120, 20.0
# Layers of each width: a light network, and as much as a ResNet-18.
CONVOLUTIONS = (1, 3)
WIDTHS = (32, 64, 128, 256, 512)

BARE = """
import concurrent.futures, json, sys, time, numpy as np

def onnx(path, waiting, beside=False):
    import onnxruntime
    from Modelling.network.onnx_threads import Threads, threads_of
    threads = Threads(1) if beside else threads_of(None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads.count, 1
    for name, value in threads.entries(onnxruntime.__version__).items():
        if waiting is None or not name.startswith("."):
            options.add_session_config_entry("session.intra_op" + name, value)
    if waiting is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", waiting)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [taken], [given] = session.get_inputs(), session.get_outputs()
    images = np.random.default_rng(0).random((64, *taken.shape[1:]), np.float32)
    def call(batch):
        with threads.calling():
            return session.run([given.name], {taken.name: batch})
    pool = concurrent.futures.ThreadPoolExecutor(int(sys.argv[2]))
    def several(batch):
        return list(pool.map(call, (batch[each : each + 1] for each in range(len(batch)))))
    return images, several if beside else call

def litert(path):
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path, num_threads=int(sys.argv[2]))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    images = np.random.default_rng(0).random((64, *taken["shape"][1:]), np.float32)
    shaped = 0
    def call(batch):
        nonlocal shaped
        if len(batch) != shaped:
            interpreter.resize_tensor_input(taken["index"], batch.shape)
            interpreter.allocate_tensors()
            shaped = len(batch)
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])
    return images, call

path = sys.argv[1]
if path.endswith(".onnx"):
    engines = [onnx(path, each) for each in ("0", "1", None)] + [onnx(path, "0", beside=True)]
else:
    engines = [litert(path)]
def streamed(images, call, size, seconds):
    call(images[:size])
    start, before, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        call(images[:size])
        done += size
    return done / (time.perf_counter() - start), 1e3 * (time.process_time() - before) / done

def alone(images, call, times):
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call(images[:1])
        took.append(time.perf_counter() - start)
        time.sleep(max(0.0, 1 / float(sys.argv[3]) - took[-1]))
    return 1e3 * sum(sorted(took)[times // 4 : 3 * times // 4]) / (times // 2)

ways = [(images, call, size) for images, call in engines for size in (1, 8, 64)]
rate, cpu = streamed(*max(ways, key=lambda way: streamed(*way, 1)[0]), 6)
one = alone(*min(engines, key=lambda engine: alone(*engine, 20)), 60)
print(json.dumps([rate, cpu, one]))
"""


def network(convolutions: int) -> Any:
    """Stack convolutions that halve the picture and double the channels; untrained.

    Each of so many at a width more costs 0.58 billion multiplications.
    """
    import keras
    from keras import layers

    stack: list[Any] = [keras.Input((SIDE, SIDE, 3))]
    for width in WIDTHS:
        for number in range(convolutions):
            stack.append(layers.Conv2D(width, 3, 1 if number else 2, "same", use_bias=False))
            stack += [layers.BatchNormalization(), layers.ReLU()]
    stack += [layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, activation="softmax")]
    return keras.Sequential(stack)


def as_onnx(folder: Path, model: Any) -> Path:
    """Write the network as an exporter of PyTorch would, NCHW."""
    path = exported(model, folder / "large.onnx", (3, SIDE, SIDE))
    labels = [str(each) for each in range(CLASSES)]
    side = {"sha256": sha256_of(path), "labels": labels, "input_shape": [SIDE, SIDE, 3]}
    path.with_name(f"{path.name}.json").write_text(json.dumps({**side, "input_range": [0, 1]}))
    return path


def as_keras(folder: Path, model: Any) -> Path:
    """Write the network as Keras does, and its compiled form."""
    path = folder / "large.keras"
    model.save(path)
    form = engine_path(path, "float32")
    form.write_bytes(compile_float32(model))
    write_side_file(
        path,
        SideFile(
            sha256=sha256_of(path),
            labels=tuple(str(each) for each in range(CLASSES)),
            input_shape=(SIDE, SIDE, 3),
            preprocessing=RESIZE,
            engines={"float32": EngineFile(form.name, sha256_of(form), None)},
            input_range=UNIT,
        ),
    )
    return path


KINDS: dict[str, Callable[[Path, Any], Path]] = {"onnx": as_onnx, "keras": as_keras}


def pictures(folder: Path, jpeg: bool) -> Path:
    """Write pictures as a camera gives them: neighbouring pixels are alike."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
        image = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if jpeg:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=90)
            (folder / f"{number}.jpg").write_bytes(file.getvalue())
        else:
            (folder / f"{number}.npy").write_bytes(encode_npy(np.asarray(image)))
    return folder


class Serving(Pipeline):
    """A pipeline whose server has a checkpoint of its own."""

    def __init__(self, broker: BrokerUnderTest, folder: Path, checkpoint: Path) -> None:
        super().__init__(broker, folder)
        self._checkpoint = checkpoint

    def sub(self, *arguments: object, **environment: str) -> Script:
        return super().sub("--checkpoint", self._checkpoint, *arguments, **environment)


def bare(checkpoint: Path) -> tuple[float, float, float]:
    """Return images/s, CPU ms per image at its best, and ms of a call for one."""
    file = checkpoint if checkpoint.suffix == ".onnx" else engine_path(checkpoint, "float32")
    output = subprocess.run(
        [sys.executable, "-c", BARE, str(file), str(available_cores()), str(RATE)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rate, cpu, one = json.loads(output.stdout.splitlines()[-1])
    return rate, cpu, one


def answered_ms(rows: list[dict[str, Any]]) -> list[float]:
    """From received to predicted, of each row."""
    return [
        1e3 * ((seconds_of(row["predicted_at"]) or 0) - (seconds_of(row["received_at"]) or 0))
        for row in rows
    ]


def measured(
    kind: str,
    convolutions: int,
    broker: BrokerUnderTest,
    options: argparse.Namespace,
    folder: Path,
) -> dict[str, Any]:
    """Bare engine and pipeline in turn."""
    checkpoint = KINDS[kind](folder, network(convolutions))
    sent = pictures(folder / "pictures", options.sent_as == "jpeg")
    pipeline = Serving(broker, folder, checkpoint)
    rounds: list[dict[str, float]] = []
    try:
        running = Running(pipeline, sent, "--count", 2 * PICTURES)
        _, first = running.send(sent, "--count", 1)
        for _ in range(options.rounds):
            rate, cpu, one = bare(checkpoint)
            rows, spent = running.send(sent, "--count", options.images)
            slow, _ = running.send(sent, "--count", ONE_AT_A_TIME, "--rate", RATE)
            answered, stored = middle(answered_ms(slow)), middle(latencies_of(slow))
            rounds.append(
                {
                    "bare_images_per_second": rate,
                    "images_per_second": throughput(rows),
                    "ratio": throughput(rows) / rate,
                    "bare_cpu_ms": cpu,
                    "server_cpu_ms": 1e3 * spent["model_server_sub"] / options.images,
                    "all_cpu_ms": 1e3 * (sum(spent.values()) - first["app_1"]) / options.images,
                    "bare_call_ms": one,
                    "received_to_predicted_ms": answered,
                    "published_to_stored_ms": stored,
                    "one_ratio": answered / one,
                    "one_ratio_end_to_end": stored / one,
                }
            )
    finally:
        pipeline.stop()
    return {"sent_as": options.sent_as, **medians(rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--broker", choices=list(BROKERS), default="local")
    parser.add_argument("--as", dest="sent_as", choices=("npy", "jpeg"), default="npy")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument(
        "--convolutions", type=int, action="append",
        help="of each width: 3 are as much as a ResNet-18 (default: 1 and 3, one after the other)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = {}
    with BROKERS[options.broker]() as broker:
        for convolutions, kind in itertools.product(
            options.convolutions or CONVOLUTIONS, options.kind or KINDS
        ):
            what = f"{kind}, {convolutions} of each width"
            with tempfile.TemporaryDirectory() as folder:
                found[what] = measured(kind, convolutions, broker, options, Path(folder))
            print(what)
            for name, value in found[what].items():
                print(f"  {name:26} {value if isinstance(value, str) else f'{value:,.3f}'}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How fast photographs are prepared and predicted, beside a bare loop on all cores.

python -m benchmarks.photograph_speed               digits, and MobileNetV2 at 224 x 224
python -m benchmarks.photograph_speed --count 100 --rounds 3

Ours: what the model server does with its batches, decoding in a pool of processes. Bare: a process
for each core that decodes, resizes and predicts by the same functions, without a pool, messages or
limits. They take turns in one run; the ratio is that of the medians. CPU is what all processes took
for one photograph: beside other work on the machine it tells more than the speed. PSS is that of
this process and the pool's; the weights of MobileNetV2 are random.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from Modelling.cores import available_cores
from Modelling.data_preparation import bundled_test_images
from Modelling.images.decoding_pool import DecodingPool
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predict_cnn import Classifier, load_classifier
from Pipeline.serving.ahead import pieces_of, prepared_ahead

SIZE = (1600, 1200)
QUALITY = 90
# So many are different; they come again and again.
DIFFERENT = 20
GRAIN = 6.0

# As the model server has them.
BATCH_BYTES = 16 << 20
BATCH_IMAGES = 256

_bare: Classifier


def photographs(count: int) -> list[bytes]:
    """Draw digits on grainy paper."""
    images, _ = bundled_test_images()
    rng = np.random.default_rng(0)
    datas = []
    for image in images[: min(count, DIFFERENT)]:
        page = np.full((SIZE[1], SIZE[0], 3), (225, 220, 210), np.float32)
        digit = np.asarray(Image.fromarray(image).resize((900, 900)), np.float32)
        page[150:1050, 350:1250] -= digit[..., None] * 0.7
        page += rng.normal(0, GRAIN, page.shape)
        buffer = io.BytesIO()
        Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        datas.append(buffer.getvalue())
    return (datas * -(-count // len(datas)))[:count]


def batches(datas: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for data in datas:
        if batch and (size + len(data) > BATCH_BYTES or len(batch) >= BATCH_IMAGES):
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    yield batch


def ours(classifier: Classifier, datas: Sequence[bytes]) -> float:
    started = time.perf_counter()
    for batch in batches(datas):
        pieces = [batch[each] for each in pieces_of([len(data) for data in batch])]
        for _, prepared in prepared_ahead(classifier.prepare_batch, pieces):
            classifier.predict(prepared()[0])
    return time.perf_counter() - started


def start_bare(checkpoint: Path) -> None:
    global _bare
    _bare = load_classifier(checkpoint, threads=1)


def bare(datas: list[bytes]) -> int:
    prepared = np.stack([_bare.prepare(data) for data in datas])
    return len(_bare.predict(prepared).labels)


def pss_megabytes(process: int) -> float:
    """Add up the memory of a process and its children, shared pages by their share."""
    kilobytes = 0
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kilobytes = int(line.split()[1])
    return kilobytes / 1024 + sum(map(pss_megabytes, children_of(process)))


def children_of(process: int) -> list[int]:
    with suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(child) for child in children]
    return []


def cpu_seconds(processes: Iterable[int]) -> float:
    """Add up the CPU time that processes have taken so far; 0 where there is no `/proc`."""
    ticks = 0
    for process in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def mobile_net(folder: Path) -> Path:
    """Make MobileNetV2 for 224 x 224, compiled as `python -m Modelling.quantise` does."""
    path = folder / "mobile_net.keras"
    code = f"import keras; keras.applications.MobileNetV2(weights=None).save({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    command = [sys.executable, "-m", "Modelling.quantise", str(path), "--input-range", "0,1"]
    subprocess.run(command, check=True, capture_output=True)
    return path


def compare(name: str, checkpoint: Path, datas: list[bytes], rounds: int) -> None:
    cores = available_cores()
    chunks = [datas[i : i + 16] for i in range(0, len(datas), 16)]
    spawn = multiprocessing.get_context("spawn")
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    cpu: dict[str, list[float]] = {"ours": [], "bare": []}
    with spawn.Pool(cores, start_bare, (checkpoint,)) as pool, DecodingPool() as decoders:
        classifier = load_classifier(checkpoint, decoders=decoders)
        ours(classifier, datas[:32])
        pool.map(bare, chunks[: 2 * cores], chunksize=1)
        theirs = {process.pid or 0 for process in multiprocessing.active_children()}
        mine = {os.getpid(), *children_of(os.getpid())} - theirs
        for _ in range(rounds):
            for way, processes, run in (
                ("ours", mine, lambda: ours(classifier, datas)),
                ("bare", theirs, lambda: pool.map(bare, chunks, chunksize=1)),
            ):
                before, started = cpu_seconds(processes), time.perf_counter()
                run()
                times[way].append(time.perf_counter() - started)
                cpu[way].append(cpu_seconds(processes) - before)
            memory = pss_megabytes(os.getpid()) - sum(map(pss_megabytes, theirs))
    rates = {way: len(datas) / statistics.median(each) for way, each in times.items()}
    spent = {way: 1000 * statistics.median(each) / len(datas) for way, each in cpu.items()}
    print(
        f"{name:12} {rates['ours']:6.1f} photographs/s, bare, {cores} cores {rates['bare']:6.1f}: "
        f"ratio {rates['ours'] / rates['bare']:.2f};  CPU {spent['ours']:.1f} ms, bare "
        f"{spent['bare']:.1f}: ratio {spent['bare'] / max(spent['ours'], 1e-9):.2f};  "
        f"PSS {memory:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photograph_speed")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="photographs")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", default="", metavar="NAME", help="digits or MobileNetV2")
    options = parser.parse_args()
    datas = photographs(options.count)
    print(f"{options.count} JPEGs of 1600 x 1200, {len(datas[0]) / 1e3:,.0f} kB each")
    if options.only in "digits":
        compare("digits", DEFAULT_CHECKPOINT, datas, options.rounds)
    if options.only in "MobileNetV2":
        with tempfile.TemporaryDirectory() as folder:
            compare("MobileNetV2", mobile_net(Path(folder)), datas, options.rounds)


if __name__ == "__main__":
    main()

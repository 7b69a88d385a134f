"""`make bench`: runs every benchmark, draws the pictures, and writes `benchmarks/RESULTS.md`.

    python -m benchmarks                   all of them
    python -m benchmarks queue db          these anew, and the report with what the others said last

Nothing in the report is written by hand: it holds what the commands printed, the machine and the
date. What was tried and did not help stands in `benchmarks/NOTES.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import pictures

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks" / "RESULTS.md"
RESULTS = ROOT / "benchmarks" / "results"

# What is run, in which order, under which heading, and what it answers.
BENCHMARKS = {
    "engine": "How fast the model runs, by engine and batch size",
    "brokers": "Each broker beside its bare client",
    "queue": "The queue beside a bare loop of write and fdatasync, and beside its peers",
    "queue_engines": "The engines behind the queue, side by side",
    "db": "The DB",
    "db_engines": "The engines behind the DB, side by side",
    "pipeline": "The four scripts against the bare model, and the latency under load",
    "peers": "This project beside its peers, on one Kafka and two cores",
    "one_image": "One image at a time, beside a bare loop of the same hops",
    "budget": "Where the time of one image goes",
    "page": "What the page costs beside 200 images a second",
    "photographs": "What becomes of photographed digits",
    "confidence": "Do confidences mean what they say, and are they low where there is no digit?",
    "photograph_speed": "Photographs of 1600 x 1200, beside a bare loop on all cores",
    "models": "Image models of 224 x 224 beside their bare engines, in ONNX and in Keras",
    "two_servers": "Two model servers against one",
    "scale": "How far it scales: measured, simulated, and for a million images a second",
    "endurance": "Does the cost of an image grow with the backlog and the DB?",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    options = parser.parse_args()
    unknown = set(options.only) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {unknown.pop()!r}: choose of {', '.join(BENCHMARKS)}")
    for name in options.only or list(BENCHMARKS):
        run(name)
    REPORT.write_text(report(pictures.draw_all()))
    print(REPORT)


def run(name: str) -> None:
    """Run one benchmark; show what it prints, and keep it."""
    print(f"--- {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode != 0:
        sys.exit(f"benchmarks.{name} failed")
    print(f"--- {name}: {time.monotonic() - started:.0f} s\n", flush=True)
    header = f"{datetime.now(UTC):%Y-%m-%d}, on {machine()}\n"
    output_of(name).write_text(header + "".join(lines))


def output_of(name: str) -> Path:
    """Where the output of a benchmark is kept."""
    return RESULTS / f"{name}.txt"


def report(drawn: list[Path]) -> str:
    """Put together what the benchmarks said when they last ran."""
    parts = [
        "# Results",
        (
            "Written by `make bench`. Compare the ratios: they were measured side by side in one "
            "run. Absolute figures are the machine's. What did not help: [NOTES.md](NOTES.md)."
        ),
        *(f"![{path.stem}]({os.path.relpath(path, REPORT.parent)})" for path in drawn),
    ]
    for name, question in BENCHMARKS.items():
        if output_of(name).exists():
            when, _, output = output_of(name).read_text().partition("\n")
            parts.append(f"## {question}\n\n`python -m benchmarks.{name}`, {when}")
            parts.append(f"```\n{output.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """The processor, its cores, and the versions that matter."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()

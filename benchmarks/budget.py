"""Where the time of one image goes: CPU of each script, by what it is spent on.

    python -m benchmarks.budget                    on the embedded broker, then on Kafka
    python -m benchmarks.budget --broker kafka

The four scripts run as ever, but for a few functions, called once a batch, that add up the CPU time
of their thread. What a step has other steps do is counted there alone. What the process has spent
beyond all steps was spent in other threads: the embedded broker's writer, librdkafka's, the
engine's. Microseconds of one core per image.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import importlib
import json
import runpy
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.brokers.harness import BROKERS
from tests.pipeline.runner import ROOT, Pipeline

RESULTS = Path(__file__).resolve().parent / "results" / "budget.json"
IMAGES = 40_000
ROUNDS = 3
REST = "all else, in all threads"

PUBLISH = ("check and publish", "MessageBroker.core.broker", "BrokerCore.publish_batch")
RECEIVE = ("receive", "MessageBroker.core.subscription", "SubscriptionCore.receive")
ACKNOWLEDGE = ("acknowledge", "MessageBroker.core.subscription", "SubscriptionCore.ack")

# What is counted: a name, and the function, called once a batch, that does it.
STEPS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "app_1": (
        ("make the events", "Pipeline.serving.image_publisher", "ImagePublisher._publish"),
        PUBLISH,
    ),
    "model_server_sub": (
        RECEIVE,
        ("decode the images", "Modelling.predict_cnn", "Classifier.prepare_batch"),
        ("run the model", "Modelling.predict_cnn", "Classifier.predict"),
        ("make the records", "Pipeline.serving.model_server", "PredictStep._predict_guarded"),
        ("encode and store them", "Queue", "FileQueue.put"),
        ACKNOWLEDGE,
    ),
    "model_server_pub": (
        ("take from the queue", "Queue", "FileQueue.take"),
        ("make the events", "Pipeline.serving.result_publisher", "inference_events"),
        PUBLISH,
        ("commit", "Queue", "FileQueue.commit"),
    ),
    "app_2": (
        RECEIVE,
        ("read the events", "Pipeline.serving.result_store", "_sort"),
        ("store them", "DB.text.database", "TextDatabase.insert"),
        ACKNOWLEDGE,
    ),
}

# What the interpreter of a counted script is given, its arguments behind it.
IN_A_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmarks.budget import run_counted
run_counted(sys.argv[2], sys.argv[3], sys.argv[4:])
"""

Budget = dict[str, dict[str, float]]


# ---------------------------------------------------------------------- inside a script


class Meter:
    """Adds up the CPU seconds of steps, each without the steps inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.began: float | None = None
        self._inner = threading.local()

    def counting(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, its CPU time counted as `step`."""

        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.began is None:
                self.began = time.process_time()
            outer = getattr(self._inner, "seconds", 0.0)
            self._inner.seconds = 0.0
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - start
                self.seconds[step] += spent - self._inner.seconds
                self._inner.seconds = outer + spent

        return counted

    def write(self, file: Path) -> None:
        """Write what was counted, and what the process has spent beyond it."""
        total = time.process_time() - (self.began or 0.0)
        rest = max(0.0, total - sum(self.seconds.values()))
        file.write_text(json.dumps({**self.seconds, REST: rest}))


def run_counted(script: str, output: str, arguments: list[str]) -> None:
    """Run a script in this process, its steps counted into `output`."""
    meter = Meter()
    atexit.register(meter.write, Path(output))
    module = runpy.run_path(str(ROOT / f"{script}.py"), run_name="imported")
    for step, where, name in STEPS[script]:
        owner: Any = importlib.import_module(where)
        *classes, function = name.split(".")
        for each in classes:
            owner = getattr(owner, each)
        setattr(owner, function, meter.counting(step, getattr(owner, function)))
    sys.argv = [f"{script}.py", *arguments]
    module["run_script"](script, module["parser"](), module["main"])


# ---------------------------------------------------------------------- outside


class CountedPipeline(Pipeline):
    """A pipeline whose scripts count what they spend."""

    def command(self, name: str) -> list[str]:
        output = self.folder / f"{name}.json"
        return [sys.executable, "-c", IN_A_SCRIPT, str(ROOT), name, str(output)]

    def spent(self, name: str) -> dict[str, float]:
        """CPU seconds of a script that has ended, by step."""
        seconds: dict[str, float] = json.loads((self.folder / f"{name}.json").read_text())
        return seconds


def measure(pipeline: CountedPipeline, images: int) -> Budget:
    """Send images through and return microseconds per image, by script and step."""
    consumers = [pipeline.sub().ready(), pipeline.pub().ready(), pipeline.app_2().ready()]
    pipeline.app_1("--count", images).end()
    pipeline.wait_for_rows(images)
    for script in consumers:
        script.terminate()
    return {
        name: {step: 1e6 * seconds / images for step, seconds in pipeline.spent(name).items()}
        for name in STEPS
    }


def median_of(budgets: list[Budget]) -> Budget:
    """Return the median of each step."""
    return {
        script: {
            step: statistics.median(each[script].get(step, 0.0) for each in budgets)
            for step in (*(name for name, _, _ in STEPS[script]), REST)
        }
        for script in STEPS
    }


def show(broker: str, budget: Budget) -> None:
    """Print a table."""
    print(f"{broker}: microseconds of one core per image")
    for script, steps in budget.items():
        print(f"  {script:<28} {sum(steps.values()):6.1f}")
        for step, microseconds in steps.items():
            print(f"    {step:<26} {microseconds:6.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), action="append")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    results: dict[str, Budget] = {}
    for name in options.broker or ["local", "kafka"]:
        budgets = []
        with BROKERS[name]() as broker:
            for _ in range(options.rounds):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    CountedPipeline(broker, Path(folder)) as pipeline,
                ):
                    budgets.append(measure(pipeline, options.images))
        results[name] = median_of(budgets)
        show(name, results[name])
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

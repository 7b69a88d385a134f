"""The process that opens a checkpoint for another one; see `trial`.

Its only argument is the request, as JSON; its answer a line of JSON on standard output: labels and
input shape, or the error. Whatever else the runtimes write there goes nowhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

from Modelling.classifier import load_classifier
from Modelling.cores import available_cores
from Modelling.errors import CheckpointError, shortened
from Modelling.network.input_range import InputRange
from Modelling.network.tensorflow import gpu_device_present
from Modelling.predictors.images import ImagePredictor

# Answers of the server that waits go first.
NICENESS = 10

# Memory that may be written: of the runtime itself (TensorFlow reserves two gigabytes and uses
# half of one), and as a multiple of what a model may have.
RUNTIME_BYTES = 4 << 30
COPIES = 4

# Of Linux: which signal a process is sent when its parent ends.
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Open what is asked for, and say what became of it."""
    request = json.loads(arguments[0])
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _give_way(request)
    said = json.dumps(_opened(request))
    gc.collect()  # what a network does when it goes is part of the trial
    with os.fdopen(answers, "w") as file:
        file.write(said)
    os._exit(0)  # how long the runtimes take for their own end is not


def _opened(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["checkpoint"])
    told = request["input_range"]
    # As the server does with a GPU; whose memory is the server's.
    engine = "tensorflow" if gpu_device_present() else None
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        classifier = load_classifier(
            path,
            threads=request["threads"],
            engine=engine,
            input_range=told and InputRange(*map(tuple, told)),
            max_bytes=request["max_bytes"],
        )
        ImagePredictor(classifier).warm_up()
    except CheckpointError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes the libraries raise
        return {"error": f"{path}: {type(error).__name__}: {shortened(error)}"}
    return {"labels": classifier.labels, "input_shape": classifier.input_shape}


def _give_way(request: dict[str, Any]) -> None:
    """Take less than the server in everything, and end with it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != request["parent"]:
            os._exit(1)
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        # Where memory ends, this process ends, and not the one that answers.
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_DATA, RUNTIME_BYTES + COPIES * request["max_bytes"])
    # Should nobody be left to end it.
    _limit(resource.RLIMIT_CPU, int(request["seconds"] * available_cores()) + 1)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(what, (most, hard))

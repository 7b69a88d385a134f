"""A file that nobody has opened yet is opened by another process first, where others rely on this.

The runtimes are native code, and believe what they read: a damaged file may end whatever opens it,
or keep it for ever, or fill the machine's memory with it. A server that answers goes on answering,
and tells what the file did to the process that tried it. What that one does is `trial_process`.

It costs the time and the memory of one start (a small network half a second, TensorFlow four), at
less priority than answers have, and is over before the file is opened here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from Modelling.errors import CheckpointError
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES
from Modelling.network.input_range import InputRange
from Modelling.predictors import trial_process
from Modelling.processes import command_of, end_of

# Networks of gigabytes are opened within a minute or two.
TRIAL_SECONDS = 600.0


@dataclass(frozen=True)
class Opening:
    """How a checkpoint is opened; see `load_classifier`."""

    threads: int | None = None
    input_range: InputRange | None = None
    max_bytes: int = DEFAULT_MAX_MODEL_BYTES


class Tried(NamedTuple):
    """What is known of a checkpoint that was opened, and has answered.

    Attributes:
        labels: Names of the classes, by index.
        input_shape: Height, width and channels of an image.
    """

    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]


def try_out(checkpoint: Path, opening: Opening, seconds: float = TRIAL_SECONDS) -> Tried:
    """Open a checkpoint in a process of its own, and let it answer once.

    Args:
        checkpoint: See `open_checkpoint`.
        opening: How.
        seconds: That it may take.

    Raises:
        CheckpointError: It is unfit, or the process did not come to its end.
    """
    told = opening.input_range
    request = {
        "checkpoint": str(checkpoint),
        "threads": opening.threads,
        "input_range": told and (told.scale, told.offset),
        "max_bytes": opening.max_bytes,
        "seconds": seconds,
        "parent": os.getpid(),
    }
    try:
        done = subprocess.run(
            command_of(trial_process.__name__, json.dumps(request)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the server
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{checkpoint}: the process that tried it has not opened it within {seconds:g} s"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint}: no process can be started to try it: {error.strerror}"
        ) from None
    if done.returncode:
        raise CheckpointError(f"{checkpoint}: {_end_of(done.returncode)}")
    said = json.loads(done.stdout)
    if "error" in said:
        raise CheckpointError(said["error"])
    height, width, channels = said["input_shape"]
    return Tried(tuple(said["labels"]), (height, width, channels))


def _end_of(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "the process that tried it was killed: probably for its memory"
    return (
        f"it crashed the process that tried it ({end_of(exit_code)}): it is damaged, or meets a "
        "fault of its runtime: copy or export it again"
    )

"""ONNX files, run by ONNX Runtime: how models of PyTorch, scikit-learn and XGBoost travel.

Anybody may have written the file: `onnx_files` looks at it before the runtime sees it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from DurableText.installation.extras import needs
from Modelling.errors import CheckpointError, shortened
from Modelling.network.checkpoint import Checkpoint
from Modelling.network.declared_size import require_size
from Modelling.network.foreign import ForeignEngine, told_range
from Modelling.network.input_range import InputRange
from Modelling.network.onnx_files import require_safe, weights_beside
from Modelling.network.onnx_threads import Threads, threads_of
from Modelling.network.side_by_side import Call, SideBySide
from Modelling.network.tensors import Tensor, chosen_output, only_input

# The types of tensors, as ONNX Runtime writes them.
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}

# What exporters of scikit-learn end a classifier with: for each row a dictionary of its classes.
DICTIONARIES = re.compile(r"seq\(map\((int64|string),tensor\(float\)\)\)")

# What an error of the runtime begins with, before it says what is wrong: its kind, the file, the
# place and signature of the function that noticed it.
ITS_OWN_CODE = re.compile(
    r"^\[ONNXRuntimeError\][^:]*: \d+ : \w+ : (Load model from .*? failed:)?"
    r"(\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z]))?",
    re.DOTALL,
)

# Characters: how far the opset may go comes last.
LONGEST_REASON = 500

# Networks up to this size (bytes) are held twice: for calls that all cores share, and for calls
# that have a core each.
TWICE_BYTES = 256 << 20

# Of the runtime's log: errors only. What it warns of is its own planning.
LOG_ERRORS = 3


def open_onnx(
    checkpoint: Checkpoint, threads: int | None, input_range: InputRange | None, max_bytes: int
) -> ForeignEngine:
    """Load an ONNX file.

    Args:
        checkpoint: See `open_checkpoint`.
        threads: CPU threads; all cores if None.
        input_range: Of the pixels that it wants; what the side file says if None.
        max_bytes: That its files may take together.

    Raises:
        CheckpointError: It is unsafe, too large, or no image classifier.
    """
    path = checkpoint.weights
    require_size(path, path.stat().st_size, max_bytes)
    require_safe(path, max_bytes)
    with needs("an ONNX model", CheckpointError):
        import onnxruntime
    placed = threads_of(threads)
    beside = _weights_beside(checkpoint)
    session = _session(onnxruntime, path, beside, placed)
    try:
        image = only_input([_tensor(each) for each in session.get_inputs()])
        output = chosen_output([_tensor(each) for each in session.get_outputs()], checkpoint.side)

        def runs(session: Any) -> Call:
            def call(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
                (answers,) = session.run([output.name], {image.name: batch})
                return np.asarray(answers) if isinstance(answers, np.ndarray) else _rows_of(answers)

            return call

        def on_all(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
            with placed.calling():
                return shared(batch)

        shared = runs(session)
        side_by_side = None
        size = path.stat().st_size + sum(map(len, beside.values()))
        if placed.count > 1 and size <= TWICE_BYTES:
            single = runs(_session(onnxruntime, path, beside, Threads(1)))
            side_by_side = SideBySide(single, placed.count, placed.cores)
        return ForeignEngine(
            "onnx", image, output, on_all, checkpoint.side,
            input_range or told_range(checkpoint), beside=side_by_side,
        )  # fmt: skip
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _weights_beside(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Read weights in further files, by the names that stand in the file.

    By itself the runtime maps them into memory: who wrote over them would change the model that
    answers, or end the process, by SIGBUS, where they become shorter.

    Raises:
        CheckpointError: They are not those that were hashed.
    """
    hashes = dict(checkpoint.beside)
    weights = {}
    for location, file in weights_beside(checkpoint.weights).items():
        try:
            weights[location] = file.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
        if hashlib.sha256(weights[location]).hexdigest() != hashes.get(file):
            raise CheckpointError(f"{file}: it changed while it was read: copy it again")
    return weights


def _session(onnxruntime: Any, path: Path, beside: dict[str, bytes], threads: Threads) -> Any:
    place = str(path)
    if any(unicodedata.category(each) == "Cs" for each in place):  # what is no UTF-8
        raise CheckpointError(f"{path}: ONNX Runtime opens no name that is not UTF-8: rename it")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = LOG_ERRORS
    settings.intra_op_num_threads = threads.count
    settings.inter_op_num_threads = 1
    for name, value in threads.entries(onnxruntime.__version__).items():
        settings.add_session_config_entry(f"session.intra_op{name}", value)
    if beside:
        settings.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), [len(each) for each in beside.values()]
        )
    try:
        return onnxruntime.InferenceSession(
            place,
            settings,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which tries the very same again, and prints so
        )
    except Exception as error:  # noqa: BLE001 - it has a class of its own for each kind of fault
        raise CheckpointError(f"{path}: ONNX Runtime refuses it: {_reason(error)}") from None


def _rows_of(answers: list[dict[Any, float]]) -> npt.NDArray[np.float32]:
    """Make dictionaries by class into rows, the classes in their order."""
    return np.array([[row[name] for name in sorted(row)] for row in answers], np.float32)


def _reason(error: Exception) -> str:
    """Leave out where in its own code the runtime noticed it, which comes first and is long."""
    return shortened(ITS_OWN_CODE.sub("", str(error)) or error, LONGEST_REASON)


def _tensor(described: Any) -> Tensor:
    if DICTIONARIES.fullmatch(described.type):
        return Tensor(described.name, (None, None), np.float32)
    sizes = tuple(size if type(size) is int and size >= 0 else None for size in described.shape)
    return Tensor(described.name, sizes, TYPES.get(described.type), described.type)

"""What the peers need and this project does not: fetched once, into `.peers/` in its root.

Virtual environments by pip, jars by Maven, and the shipped network as ONNX. Each is built under
another name and renamed when it is complete; its name carries a checksum of what it was made of.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / ".peers"
JAVA_PROJECT = HERE / "kafka_streams"
CALIBRATION_IMAGES = 1000

# In a process of its own: it takes TensorFlow, which would stay in this one.
EXPORT = """
import sys
from pathlib import Path
from Modelling.network.keras_models import load_keras_model
from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from tests.modelling.foreign import exported
exported(load_keras_model(DEFAULT_CHECKPOINT), Path(sys.argv[1]))
"""
# As ONNX Runtime's documentation recommends for convolutions on a CPU: static, QDQ, per channel.
QUANTISE = """
import sys
import numpy as np
from Modelling.data_preparation import bundled_test_images
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static)
source, prepared, target, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
images = bundled_test_images()[0][:count, None].astype(np.float32) / 255
class Images(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"image": images[i : i + 100]} for i in range(0, count, 100)])
    def get_next(self):
        return next(self.batches, None)
quant_pre_process(source, prepared, skip_symbolic_shape=True)
quantize_static(prepared, target, Images(), quant_format=QuantFormat.QDQ, per_channel=True,
    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""


class PeerMissingError(RuntimeError):
    """Raised where a peer cannot be had on this machine; the text says what was tried."""


def python_with(name: str) -> Path:
    """Return the interpreter of a virtual environment with `requirements_<name>.txt`.

    Raises:
        PeerMissingError: pip cannot install it.
    """
    requirements = HERE / f"requirements_{name}.txt"
    environment = FOLDER / f"{name}-{_checksum(requirements)}"
    if not environment.exists():
        # A virtual environment knows its own path, so it is made in place, and marked at the end.
        unfinished = environment.with_suffix(".unfinished")
        _run(f"a virtual environment for {name}", [sys.executable, "-m", "venv", unfinished])
        pip = [unfinished / "bin" / "python", "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--requirement", requirements]
        _run(f"pip install -r {requirements.relative_to(ROOT)}", pip)
        environment.symlink_to(unfinished.name)
    return environment / "bin" / "python"


def classpath() -> str:
    """Return the class path of the program for Kafka Streams, compiled.

    Raises:
        PeerMissingError: without Java or Maven, or if Maven cannot fetch or compile.
    """
    if missing := [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]:
        raise PeerMissingError(
            f"{' and '.join(missing)} not found: `apt-get install default-jdk-headless maven`, "
            "or `brew install openjdk maven`"
        )
    pom = JAVA_PROJECT / "pom.xml"
    target = FOLDER / f"kafka_streams-{_checksum(pom, *sorted(JAVA_PROJECT.rglob('*.java')))}"
    with _made_once(target) as partial:
        if partial is not None:
            command = ["mvn", "--batch-mode", "--quiet", "--file", pom, f"-Dout={partial}"]
            _run("Maven", [*command, "compile", "dependency:copy-dependencies"])
    return f"{target / 'classes'}:{target / 'libs'}/*"


def onnx_file(form: str) -> Path:
    """Return the shipped network as ONNX, in `float32` or `int8`."""
    target = FOLDER / f"onnx-{_checksum(ROOT / 'Modelling/model_checkpoints/mnist_cnn_model.h5')}"
    with _made_once(target) as partial:
        if partial is not None:
            partial.mkdir()
            float32, prepared, int8 = (
                partial / f"{each}.onnx" for each in ("float32", "prepared", "int8")
            )
            _run("the export to ONNX", [sys.executable, "-c", EXPORT, float32])
            arguments = [float32, prepared, int8, CALIBRATION_IMAGES]
            _run("ONNX Runtime's quantisation", [sys.executable, "-c", QUANTISE, *arguments])
    return target / f"{form}.onnx"


@contextmanager
def _made_once(target: Path) -> Iterator[Path | None]:
    """Give a place to make `target` in, or None if it is there."""
    if target.exists():
        yield None
        return
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        yield Path(folder, "made")
        Path(folder, "made").rename(target)


def _checksum(*files: Path) -> str:
    return f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}"


def _run(what: str, command: list[object]) -> None:
    FOLDER.mkdir(exist_ok=True)
    outcome = subprocess.run(
        [str(each) for each in command],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode != 0:
        said = (outcome.stdout + outcome.stderr).strip()[-1500:]
        raise PeerMissingError(f"{what} failed:\n{said}")

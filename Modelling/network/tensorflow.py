"""TensorFlow, imported late and quietly.

The import costs 3 to 6 seconds and several hundred megabytes, so nothing does it at the top of a
module. TensorFlow and XLA also greet on stderr from C++, before any Python logger can stop them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from DurableText.installation.extras import needs
from Modelling.errors import CheckpointError


def import_tensorflow() -> Any:
    """Import TensorFlow (and with it the Keras that belongs to it) without noise.

    Raises:
        CheckpointError: TensorFlow is not installed.
    """
    # Errors still show; INFO and WARNING are about CPU instructions and missing CUDA libraries.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with needs("a Keras model", CheckpointError), quiet():
        tensorflow = importlib.import_module("tensorflow")
        # Looking for a GPU where there is none is reported as an error, once.
        tensorflow.config.list_physical_devices()
    tensorflow.get_logger().setLevel("ERROR")
    importlib.import_module("absl.logging").set_verbosity("error")
    return tensorflow


def gpu_device_present() -> bool:
    """Tell whether TensorFlow might find a GPU, without importing it; not where it is missing."""
    if importlib.util.find_spec("tensorflow") is None:
        return False
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def limit_tensorflow_threads(threads: int) -> None:
    """Give TensorFlow so many CPU threads. It takes this once, before it makes its first tensor."""
    tf = import_tensorflow()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # It has started already in this process (at a reload, say), with what it was given then.
        return


@contextlib.contextmanager
def quiet(*, show: bool = True) -> Iterator[None]:
    """Hold back what native code writes to stdout and stderr.

    Args:
        show: Show its end if the block fails.

    It works on the process's file descriptors, so what other threads write meanwhile is held back
    too. Use it around imports and conversions, not around long work.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(1), os.dup(2)
        try:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BaseException:
            if show:
                held.seek(0)
                os.write(saved[1], held.read()[-4000:])
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])

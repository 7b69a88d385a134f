"""A new checkpoint takes over while the server runs, between two batches.

A thread looks at the checkpoint's files. When they change, the new one is verified against its
side file, loaded, warmed up and tried out beside the one that answers; then it is handed to the
next batch. One that is unfit is told once and the old one goes on. SIGHUP looks at once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np

from DurableText.closing import ClosedAtExit
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import (
    PATIENCE,
    RETRY_INTERVAL,
    Checkpoint,
    open_checkpoint,
    sha256_of,
    side_file_path,
)
from Modelling.predict_cnn import Classifier, load_classifier
from Pipeline.script.first_signals import terminal_is_gone
from Pipeline.stop import Stop

logger = logging.getLogger(__name__)

# Two system calls a second: nobody waits for a new model more closely, and SIGHUP is at once.
LOOK_SECONDS = 1.0
# How far the probabilities of a class may be from adding up to 1.
SUM_TOLERANCE = 1e-2

Signature = tuple[tuple[int, int, int], ...]


class LiveModel(ClosedAtExit):
    """The classifier that answers now, and the watch for its successor.

    `current` is for the thread that predicts; it asks before each batch and keeps what it got
    until the batch is done.
    """

    def __init__(
        self,
        checkpoint: Path,
        threads: int | None,
        stop: Stop,
        *,
        look_seconds: float = LOOK_SECONDS,
        patience: float = PATIENCE,
        load: Callable[..., Classifier] = load_classifier,
    ) -> None:
        """Load the checkpoint and begin to watch it.

        Args:
            checkpoint: a `.h5` or `.keras` file.
            threads: CPU threads of the model; None for all cores.
            stop: asked to end when SIGHUP meant that the terminal is gone.
            look_seconds: between two looks at the files.
            patience: seconds for which files that do not belong together are looked at again.
            load: loads a checkpoint; takes it and `threads`.

        Raises:
            CheckpointError: it cannot be used.
        """
        self.reloads = {"swapped": 0, "refused": 0}
        self._checkpoint = checkpoint
        self._threads = threads
        self._stop = stop
        self._look_seconds = look_seconds
        self._patience = patience
        self._load_classifier = load
        found = open_checkpoint(checkpoint)
        self._forms = _forms_of(found)
        self._seen = self._signature()
        self._current = load(checkpoint, threads=threads)
        self._had_side_file = found.side is not None
        self._wake = threading.Event()
        self._hurry = False
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="reload", daemon=True)
        self._thread.start()

    def current(self) -> Classifier:
        """Return the classifier for the next batch."""
        return self._current

    @property
    def version(self) -> str:
        """The version of the classifier that answers now."""
        return self._current.version

    def on_signal(self) -> None:
        """Look at once on SIGHUP."""
        signal.signal(signal.SIGHUP, self._on_sighup)

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        self._wake.set()
        self._thread.join(PATIENCE)

    def _on_sighup(self, _number: int, _frame: FrameType | None) -> None:
        if terminal_is_gone():
            self._stop.request()  # no reload was meant: the terminal was closed
        self._hurry = True
        self._wake.set()

    def _watch(self) -> None:
        while not self._closed:
            self._wake.wait(self._look_seconds)
            self._wake.clear()
            hurry, self._hurry = self._hurry, False
            if not self._closed and (hurry or self._signature() != self._seen):
                self._reload()

    def _reload(self) -> None:
        try:
            successor = self._load()
        except CheckpointError as error:
            self._refuse(str(error))
        except Exception as error:
            # Whatever a foreign file makes the libraries raise: the old model goes on.
            logger.debug("the new checkpoint", exc_info=True)
            self._refuse(f"{self._checkpoint}: {type(error).__name__}: {error}")
        else:
            self._swap(successor)

    def _load(self) -> Classifier:
        found = self._wait_until_complete()
        successor = self._load_classifier(self._checkpoint, threads=self._threads)
        try_out(successor)
        self._had_side_file = found.side is not None
        return successor

    def _wait_until_complete(self) -> Checkpoint:
        """Wait until the checkpoint, its side file and all that it names belong together.

        The loader would be content without the side file, and answer with numbers in place of
        labels; and without the compiled forms, and take TensorFlow, which is slower by far and
        takes seconds to import: not what a half-copied checkpoint should cause.

        Raises:
            CheckpointError: they still do not after the patience.
        """
        deadline = time.monotonic() + self._patience
        while True:
            # Before they are read: what changes from here on is looked at once more.
            self._seen = self._signature()
            found = open_checkpoint(self._checkpoint, patience=self._patience)
            self._forms = _forms_of(found)
            lack = self._what_lacks(found)
            if lack is None:
                return found
            if time.monotonic() >= deadline or self._closed:
                raise CheckpointError(f"{self._checkpoint}: {lack}: copy all of its files")
            time.sleep(RETRY_INTERVAL)

    def _what_lacks(self, checkpoint: Checkpoint) -> str | None:
        if checkpoint.side is None:
            if self._had_side_file:
                return f"its side file {side_file_path(checkpoint.path).name} is missing"
            return None
        late = [
            each.file
            for each in checkpoint.side.engines.values()
            if not _has(checkpoint.path.with_name(Path(each.file).name), each.sha256)
        ]
        if late:
            named = "is missing or not the one that its side file names"
            return f"{', '.join(late)} beside it {named}"
        return None

    def _swap(self, successor: Classifier) -> None:
        before, self._current = self._current, successor
        self.reloads["swapped"] += 1
        same = successor.version == before.version
        logger.info(
            "reloaded: %s answers from now on, %s before",
            successor.version,
            "the same" if same else before.version,
            extra={
                "event": "reload",
                "model": successor.version,
                "model_before": before.version,
            },
        )
        if successor.labels != before.labels:
            logger.warning("the new model has other labels than the old one: see its side file")

    def _refuse(self, reason: str) -> None:
        self.reloads["refused"] += 1
        logger.error(
            "the new checkpoint is unfit, %s goes on: %s",
            self._current.version,
            reason,
            extra={"event": "reload-refused", "model": self._current.version, "error": reason},
        )

    def _signature(self) -> Signature:
        """Tell one state of the files from another; a missing file has one too."""
        files = (self._checkpoint, side_file_path(self._checkpoint), *self._forms)
        return tuple(_stamp(path) for path in files)


def _forms_of(checkpoint: Checkpoint) -> tuple[Path, ...]:
    """Tell where the compiled forms lie that a side file names."""
    engines = checkpoint.side.engines.values() if checkpoint.side else ()
    return tuple(checkpoint.path.with_name(Path(each.file).name) for each in engines)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino


def _has(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def try_out(classifier: Classifier) -> None:
    """Classify noise: a model that diverged in training shall not take over.

    Raises:
        CheckpointError: the answers are no probabilities.
    """
    noise = np.random.default_rng(0).random((8, *classifier.input_shape), np.float32)
    probabilities = classifier.probabilities(noise)
    sums = probabilities.sum(axis=1)
    if not np.isfinite(sums).all() or np.abs(sums - 1.0).max() > SUM_TOLERANCE:
        raise CheckpointError("the new model does not answer with probabilities")

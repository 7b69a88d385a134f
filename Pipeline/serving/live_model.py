"""A new model takes over while the server runs, between two batches.

A thread looks at the files that the model is made of. When they change, the new one is verified,
loaded, warmed up and tried out beside the one that answers; then it is handed to the next batch.
One that is unfit is told once and the old one goes on. SIGHUP looks at once.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from DurableText.program.closing import ClosedAtExit
from DurableText.program.first_signals import terminal_is_gone
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import PATIENCE
from Modelling.network.stamps import Stamp, stamp_of
from Modelling.predictor import Predictor, PredictorSource, labels_of
from Pipeline.serving.loading import ended_by_signals, told_if_slow
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop

logger = logging.getLogger(__name__)

# Two system calls a second: nobody waits for a new model more closely, and SIGHUP is at once.
LOOK_SECONDS = 1.0

Signature = tuple[Stamp, ...]


class LiveModel(ClosedAtExit):
    """The predictor that answers now, and the watch for its successor.

    `current` is for the thread that predicts; it asks before each batch and keeps what it got
    until the batch is done.
    """

    def __init__(
        self,
        source: PredictorSource,
        stop: Stop,
        watchdog: Watchdog,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Make the predictor and begin to watch its files.

        Args:
            source: makes it, and its successors.
            stop: asked to end when SIGHUP meant that the terminal is gone.
            watchdog: tells that one takes long to load.
            look_seconds: between two looks at the files.

        Raises:
            CheckpointError: it cannot be used.
        """
        self.reloads = {"swapped": 0, "refused": 0}
        self._source = source
        self._stop = stop
        self._watchdog = watchdog
        self._look_seconds = look_seconds
        with ended_by_signals():
            self._current = self._load()
        self._retired: list[Predictor] = []
        self._wake = threading.Event()
        self._hurry = False
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="reload", daemon=True)
        self._thread.start()

    def current(self) -> Predictor:
        """Return the predictor for the next batch; those before it have done their last."""
        current = self._current
        while self._retired:
            self._retired.pop().close()
        return current

    @property
    def version(self) -> str:
        """The version of the predictor that answers now."""
        return self._current.version

    def on_signal(self) -> None:
        """Look at once on SIGHUP."""
        signal.signal(signal.SIGHUP, self._on_sighup)

    def close(self) -> None:
        """Watch no more."""
        self._closed = True
        self._wake.set()
        self._thread.join(PATIENCE)
        self.current().close()

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
            logger.debug("the new model", exc_info=True)
            self._refuse(f"{self._source.name}: {type(error).__name__}: {error}")
        else:
            self._swap(successor)

    def _load(self) -> Predictor:
        with told_if_slow(self._watchdog, self._source.name):
            return self._source.load(self._look)

    def _look(self) -> None:
        self._seen = self._signature()

    def _swap(self, successor: Predictor) -> None:
        before, self._current = self._current, successor
        self._retired.append(before)
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
        if labels_of(successor) != labels_of(before):
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
        return tuple(map(stamp_of, self._source.files()))

"""Python of one's own behind the seam: `package.module:Class`, for rows, texts, sound, anything.

What it returns is held against the contract before the pipeline sees it: a result that the queue or
the DB could not take would hold up all others.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from Modelling.errors import CheckpointError, PreparationStoppedError, shortened
from Modelling.network.hashes import files_of
from Modelling.network.side_file_values import checked_labels
from Modelling.predictor import Answer, Item, Predictor
from Modelling.predictors.own_answers import AnswerError, checked_answers, checked_preparation
from Modelling.predictors.own_threads import tell_failing
from Modelling.predictors.surroundings import Surroundings

logger = logging.getLogger(__name__)

# What a predictor has; see `Predictor`.
METHODS = ("warm_up", "prepare_batch", "predict", "close")

# What closing may take, before it is left to itself.
CLOSE_SECONDS = 5.0

# What a process ends with that was forked by a predictor and left to itself.
EXIT_STRAY = 1

# Characters of a version: it stands in each result, and in labels of metrics.
MAX_VERSION_CHARACTERS = 200


class OwnSource:
    """Makes predictors of a class of one's own; see `PredictorSource`.

    Attributes:
        name: `package.module:Class`.
    """

    def __init__(self, name: str, checkpoint: Path | None, threads: int | None) -> None:
        """Remember what is made.

        Args:
            name: `package.module:Class`; the working directory is on the path.
            checkpoint: Given to the class, and watched; None for nothing.
            threads: Given to the class.
        """
        self.name = name
        self._checkpoint = checkpoint
        self._threads = threads

    def files(self) -> Sequence[Path]:
        """Return the checkpoint's. Code is not watched: a module is imported once."""
        if self._checkpoint is None:
            return ()
        inside = files_of(self._checkpoint) if self._checkpoint.is_dir() else ()
        return (self._checkpoint, *inside)

    def load(self, looking: Callable[[], None]) -> Predictor:
        """Import the class, make one of it, and warm it up.

        Raises:
            CheckpointError: That fails; the text says where.
        """
        looking()
        tell_failing(self.name.partition(":")[0])
        surroundings = Surroundings()
        try:
            with self._told("cannot be imported"):
                made_by = self._import()
            with self._told("cannot be made"):
                predictor = OwnPredictor(made_by(self._checkpoint, self._threads), surroundings)
            with self._told("cannot be warmed up"):
                predictor.warm_up()
            if surroundings.replaced:
                raise CheckpointError(
                    f"--predictor {self.name} puts others in the place of "
                    f"{', '.join(surroundings.replaced)}, which the whole server uses, as "
                    "monkey.patch_all() of gevent does: serve it without, or in a process of its "
                    "own that this one asks"
                )
        finally:
            surroundings.restore()
        return predictor

    def _import(self) -> Any:
        module, _, name = self.name.partition(":")
        if not module or not name:
            raise CheckpointError("--predictor is package.module:Class")
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return getattr(importlib.import_module(module), name)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            said = shortened(error) if isinstance(error, CheckpointError) else _named(error)
            raise CheckpointError(f"--predictor {self.name} {what}: {said}") from error


class OwnPredictor:
    """A predictor of one's own, held against the contract.

    Attributes:
        version: Its own.
        item_bytes: Its own, 0 if it does not say it.
        labels: Its own, None if it does not say them, or not as a list of texts.
    """

    def __init__(self, own: Any, surroundings: Surroundings | None = None) -> None:
        """Take it over.

        Args:
            own: An instance of the class.
            surroundings: What is restored whenever its code has run; what is there now if None.

        Raises:
            AnswerError: It lacks what a predictor has.
        """
        lacking = [each for each in METHODS if not callable(getattr(own, each, None))]
        if lacking:
            raise AnswerError(f"it has no {', '.join(lacking)}")
        awaited = [each for each in METHODS if _is_async(getattr(own, each))]
        if awaited:
            raise AnswerError(
                f"{', '.join(awaited)} must be plain functions, not `async`: nobody awaits them; "
                "call asyncio.run inside of them"
            )
        version = getattr(own, "version", None)
        if not isinstance(version, str) or not version.isprintable() or not version.strip():
            raise AnswerError(f"its version must be a text, not {shortened(repr(version))}")
        if len(version) > MAX_VERSION_CHARACTERS:
            raise AnswerError(f"its version is longer than {MAX_VERSION_CHARACTERS} characters")
        item_bytes = getattr(own, "item_bytes", 0)
        if type(item_bytes) is not int or item_bytes < 0:
            raise AnswerError(
                f"its item_bytes must be a number from 0, not {shortened(repr(item_bytes))}"
            )
        self._own = own
        self._surroundings = surroundings or Surroundings()
        self.version = version
        self.item_bytes = item_bytes
        self.labels = _labels_of(own)

    def warm_up(self) -> None:
        """Warm it up."""
        self._own.warm_up()

    def prepare_batch(self, items: Sequence[Item]) -> tuple[Any, list[str | None]]:
        """Prepare a batch, with an error or none for each item.

        Raises:
            AnswerError: It does not say that of each.
        """
        with self._its_code():
            # What cannot be changed: answers to items that it put in another order would be given
            # to the wrong ones.
            prepared = self._own.prepare_batch(tuple(items))
            return checked_preparation(prepared, len(items))

    def predict(self, batch: Any) -> list[Answer]:
        """Predict a batch.

        Raises:
            AnswerError: An answer is none that a result could hold.
        """
        with self._its_code():
            return checked_answers(self._own.predict(batch))

    @contextmanager
    def _its_code(self) -> Iterator[None]:
        """Run code of its own: what that does to the process is undone; see `_exits_told`.

        What it gave is of its own, too: its length and its text may be code.

        Of a process that it forked, and that comes back here, nothing is wanted: it would go on as
        a second server, without the threads of one.
        """
        process = os.getpid()
        try:
            with _exits_told():
                yield
        finally:
            if os.getpid() != process:
                logger.warning("%s left a process that it had forked: it is ended", self.version)
                os._exit(EXIT_STRAY)
            self._surroundings.restore()

    def close(self) -> None:
        """Close it; where that fails neither its successor nor the script's end is held up."""
        thread = threading.Thread(target=self._close, name="close", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            logger.warning("%s is not closed within %g s", self.version, CLOSE_SECONDS)

    def _close(self) -> None:
        try:
            self._own.close()
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            logger.warning("%s could not be closed: %s", self.version, _named(error))


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _labels_of(own: Any) -> tuple[str, ...] | None:
    """Return the names of its classes; None where it has none, or calls something else so."""
    labels = getattr(own, "labels", None)
    if labels is None:
        return None
    try:
        ordered = isinstance(labels, Iterable) and not isinstance(labels, (Mapping, Set, str))
        return checked_labels(list(labels) if ordered else labels)
    except ValueError as error:
        logger.warning(
            "%s: %s, by class index: a canary's and a shadow's cannot be held against them",
            own.version,
            error,
        )
        return None


@contextmanager
def _exits_told() -> Iterator[None]:
    """Tell what is meant for a whole program as what it is: the batch's fault, not the server's.

    The thread that predicts would end without a word, and the same item end each server that comes
    after. No signal is raised as `KeyboardInterrupt` in such a thread.
    """
    try:
        yield
    except PreparationStoppedError as error:  # which would leave the items to the next server
        raise AnswerError(f"it raised {_named(error)}") from error
    except SystemExit as error:
        code = "" if error.code is None else shortened(error)
        raise AnswerError(f"it called sys.exit({code})") from error
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        raise AnswerError(f"it raised {_named(error)}") from error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {shortened(error)}"

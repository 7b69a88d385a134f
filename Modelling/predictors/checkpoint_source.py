"""A checkpoint in files, which may change while it is served."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import (
    PATIENCE,
    RETRY_INTERVAL,
    Checkpoint,
    open_checkpoint,
    sha256_within,
    side_file_path,
)
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES
from Modelling.network.hashes import files_of
from Modelling.network.side_file_place import own_side_file_path
from Modelling.predictor import Predictor

logger = logging.getLogger(__name__)

# How often files are read that are changed while they are: whoever writes them is not done.
MOST_READINGS = 5


class CheckpointSource:
    """Makes predictors of one checkpoint's files; see `PredictorSource`.

    Attributes:
        name: The checkpoint's path.
    """

    def __init__(
        self,
        checkpoint: Path,
        load: Callable[[Checkpoint], Predictor],
        *,
        try_out: Callable[[Path], object] | None = None,
        patience: float = PATIENCE,
        max_bytes: int = DEFAULT_MAX_MODEL_BYTES,
    ) -> None:
        """Remember how it is loaded.

        Args:
            checkpoint: See `open_checkpoint`.
            load: Loads it.
            try_out: Called before a successor is loaded that is another than what is served: what
                it refuses is not; see `trial`. A first one keeps nobody from answering.
            patience: Seconds for which files that do not belong together are looked at again.
            max_bytes: See `open_checkpoint`.
        """
        self.name = str(checkpoint)
        self._checkpoint = checkpoint
        self._load = load
        self._try_out = try_out
        self._patience = patience
        self._max_bytes = max_bytes
        self._forms: tuple[Path, ...] = ()
        self._served: Checkpoint | None = None

    def files(self) -> Sequence[Path]:
        """Return the checkpoint, its side file, its weights, and the compiled forms."""
        inside = files_of(self._checkpoint) if self._checkpoint.is_dir() else ()
        return (self._checkpoint, side_file_path(self._checkpoint), *inside, *self._forms)

    def load(self, looking: Callable[[], None]) -> Predictor:
        """Load what is there; of a successor wait until all of its files belong together.

        The loader would be content without the side file, and answer with numbers in place of
        labels; and without the compiled forms, and take TensorFlow, which is slower by far and
        takes seconds to import: not what a half-copied checkpoint should cause.

        Raises:
            CheckpointError: They still do not after the patience, or are changed each time they
                are read; or it is unfit.
        """
        deadline = time.monotonic() + self._patience
        readings = 0
        while True:
            looking()
            found = open_checkpoint(
                self._checkpoint, patience=self._patience, max_bytes=self._max_bytes
            )
            forms, self._forms = self._forms, _forms_of(found)
            if forms != self._forms:
                looking()
            lack = self._what_lacks(found) if self._served else None
            if lack is None:
                try:
                    return self._loaded(found)
                except CheckpointError:
                    readings += 1
                    if readings == MOST_READINGS or not found.is_changed:
                        raise  # else who knows what was read
            elif time.monotonic() >= deadline:
                raise CheckpointError(f"{self._checkpoint}: {lack}: copy all of its files")
            time.sleep(RETRY_INTERVAL)

    def _loaded(self, found: Checkpoint) -> Predictor:
        if self._try_out is not None and self._served not in (None, found):
            self._try_out(self._checkpoint)
            found.require_unchanged()  # else another one was tried
        predictor = self._load(found)
        predictor.warm_up()
        self._served = found
        if _is_passed_over(found):
            logger.warning(
                "%s was written after another was promoted in its place, and is not served: "
                "promote it, from another place, or go back with `python -m Modelling.promote "
                "--back`",
                found.path,
            )
        return predictor

    def _what_lacks(self, checkpoint: Checkpoint) -> str | None:
        if checkpoint.side is None:
            if self._served is not None and self._served.side is not None:
                path = checkpoint.path
                names = (own_side_file_path(path).name, path.with_suffix(".json").name)
                return f"its side file, {' or '.join(dict.fromkeys(names))}, is missing"
            return None
        late = [
            each.file
            for each in checkpoint.side.engines.values()
            if not self._has(checkpoint.path.with_name(Path(each.file).name), each.sha256)
        ]
        if late:
            named = "is missing or not the one that its side file names"
            return f"{', '.join(late)} beside it {named}"
        return None

    def _has(self, path: Path, sha256: str) -> bool:
        try:
            return sha256_within(path, self._max_bytes) == sha256
        except OSError:
            return False


def _is_passed_over(found: Checkpoint) -> bool:
    """Tell whether the file is newer than the side file that says that another one is served."""
    if found.weights == found.path:
        return False
    try:
        promoted = side_file_path(found.path).stat().st_mtime
        return found.path.stat().st_mtime > promoted
    except OSError:
        return False


def _forms_of(checkpoint: Checkpoint) -> tuple[Path, ...]:
    """Tell where the compiled forms lie that a side file names, and weights in further files."""
    engines = checkpoint.side.engines.values() if checkpoint.side else ()
    forms = [checkpoint.path.with_name(Path(each.file).name) for each in engines]
    return (*forms, *(file for file, _ in checkpoint.beside))

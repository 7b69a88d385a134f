"""`Predictor`: whatever answers messages, behind one seam. The contract of every model stands here.

The Keras classifier keeps it, files of other frameworks do, and so may a class of one's own:

    class Iris:
        def __init__(self, checkpoint: Path | None, threads: int | None) -> None: ...
        version = "iris@1"
        def warm_up(self) -> None: ...
        def prepare_batch(self, items): ...      # -> batch, errors
        def predict(self, batch): ...            # -> [{"label": "setosa", "confidence": 0.98}, …]
        def close(self) -> None: ...

The pipeline knows nothing else of a model. It calls `prepare_batch` and `predict` for each batch,
hands a successor's predictions out between two batches, and moves away what cannot be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from Modelling.errors import ImageError

Answer = dict[str, Any]

# Why an item cannot be answered; None for one that can. A picture's fault says what is its kind.
ItemErrors = Sequence["ImageError | str | None"]

# What the pipeline writes into a result by itself: no answer has them; nor what ends in `_at`.
RESERVED = frozenset(
    ("id", "model", "source", "expected_label", "traceparent", "top", "unsure", "seq")
) | frozenset(("stored_at", "crc"))
RESERVED_SUFFIX = "_at"


def is_reserved(name: str) -> bool:
    """Tell whether a name in a result is the pipeline's own."""
    return name in RESERVED or name.endswith(RESERVED_SUFFIX)


class Item(NamedTuple):
    """What a message brings.

    Attributes:
        data: its body, whatever that holds.
        attributes: what is said of it, by name: CloudEvents' own (`subject`, `white`) without the
            prefix of their broker, and all others as they came.
    """

    data: bytes
    attributes: Mapping[str, str]


class Predictor(Protocol):
    """Answers items in batches.

    It is made by `Class(checkpoint, threads)`: a path, None where none was given; and the number of
    CPU threads it may use, None for all cores. Anew for each reload, beside the one that answers,
    which is closed after its last batch.

    It may say more of itself: see `Traits`.

    Attributes:
        version: names the model in each result; another one for other weights.
    """

    version: str

    def warm_up(self) -> None:
        """Do once what would make the first items wait; what is unfit to answer raises here."""
        ...

    def prepare_batch(self, items: Sequence[Item]) -> tuple[Any, ItemErrors]:
        """Make items into whatever `predict` takes. Any thread may call it.

        Returns:
            The batch of those without an error, in their order; and for each item None, or why it
            cannot be answered: that one goes to the dead-letter topic, the others go on.
        """
        ...

    def predict(self, batch: Any) -> Sequence[Answer]:
        """Answer a batch; one thread calls it.

        Returns:
            A JSON object for each item of the batch, in order. `label` (a text), `class_index` and
            `confidence` (0 to 1) mean what they do everywhere; other names are free, but for
            those that are `RESERVED`.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; nothing is called afterwards."""
        ...


class Traits(NamedTuple):
    """What a predictor may say of itself, as attributes, and what counts where it does not.

    Attributes:
        labels: the names of its classes, by index; None if it does not say them. A canary with
            others is refused, a shadow with others is told.
        item_bytes: what a prepared item takes in memory; 0 if it does not say it. Else the items of
            a batch are prepared a few megabytes at a time, the next while these are predicted.
        preparation_ends: whether `prepare_batch` ends by itself whatever it is given; if not,
            `--predict-timeout` counts for it, too.
    """

    labels: Sequence[str] | None = None
    item_bytes: int = 0
    preparation_ends: bool = False


def traits_of(predictor: Predictor) -> Traits:
    """Return what it says of itself."""
    unsaid = Traits()
    return Traits(
        labels=getattr(predictor, "labels", unsaid.labels),
        item_bytes=getattr(predictor, "item_bytes", unsaid.item_bytes),
        preparation_ends=getattr(predictor, "preparation_ends", unsaid.preparation_ends),
    )


def labels_of(predictor: Predictor) -> Sequence[str] | None:
    """Return the names of its classes, by index; None if it does not say them, as files do."""
    return traits_of(predictor).labels


def sizes_of(predictor: Predictor, items: Sequence[Item]) -> list[int]:
    """Return what is counted of each item for how many are prepared at once (bytes).

    By `sizes_of` of a class that says more than its `item_bytes`; else what each takes as it came
    or prepared, whichever is more.
    """
    sizes: Callable[[Sequence[Item]], list[int]] | None = getattr(predictor, "sizes_of", None)
    if sizes is not None:
        return sizes(items)
    prepared = traits_of(predictor).item_bytes
    return [max(len(item.data), prepared) for item in items]


class PredictorSource(Protocol):
    """Makes a predictor, and its successors when the files change that it is made of.

    Attributes:
        name: what is served, for logs.
    """

    name: str

    def files(self) -> Sequence[Path]:
        """Tell whose change means that there is a successor; files may be missing."""
        ...

    def load(self, looking: Callable[[], None]) -> Predictor:
        """Make the first one, or a successor once its files belong together; warmed up.

        Args:
            looking: Called each time before files are looked at: what changes from there on is
                looked at once more.

        Raises:
            CheckpointError: It cannot be used; the text says why.
        """
        ...

"""Items are answered together; one by one where that fails, so that each costs itself alone.

The served model and a shadow do so alike. What differs is what they make of an item that has no
answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from Modelling.errors import ImageError, PreparationStoppedError, shortened
from Modelling.predictor import Answer, Item, ItemErrors

UNREADABLE = "unreadable item"
UNPREDICTABLE = "prediction failed"

Prepared = tuple[Any, ItemErrors]


class Failure(NamedTuple):
    """Why an item has no answer.

    Attributes:
        reason: in words that are the same for the same fault.
        error: the details.
    """

    reason: str
    error: ImageError | str


class Model(NamedTuple):
    """How items are answered: a predictor's two methods, as its user calls them.

    Attributes:
        prepare: makes items into a batch; see `Predictor.prepare_batch`.
        predict: answers a batch of so many items; see `Predictor.predict`.
    """

    prepare: Callable[[Sequence[Item]], Prepared]
    predict: Callable[[Any, int], Sequence[Answer]]


def answer_each(
    model: Model,
    items: Sequence[Item],
    prepared: Callable[[], Prepared],
    tell_failed: Callable[[int, str], object] = lambda _count, _why: None,
) -> Iterator[list[Answer | Failure]]:
    """Answer items; yield what became of them, in their order, as soon as it is known.

    Args:
        model: answers them.
        items: what to answer.
        prepared: gives their preparation, or raises; asked once.
        tell_failed: told how many failed together, and why, before they are tried one by one.

    Yields:
        An answer or a failure for each of the next items: of all at once, or of one.

    Raises:
        PreparationStoppedError: the script ends, and they are left to the next one.
    """
    if not items:
        return
    try:
        batch, errors = prepared()
        if len(errors) != len(items):
            raise ValueError(f"{len(errors)} errors for {len(items)} items")
        good = sum(error is None for error in errors)
        answers = model.predict(batch, good) if good else ()
        if len(answers) != good:
            raise ValueError(f"{len(answers)} answers for {good} items")
    except PreparationStoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model raises
        why = shortened(error)
    else:
        following = iter(answers)
        yield [next(following) if error is None else _refused(error) for error in errors]
        return
    if len(items) == 1:
        yield [Failure(UNPREDICTABLE, why)]
        return
    tell_failed(len(items), why)
    for item in items:
        alone = [item]
        prepared = functools.partial(model.prepare, alone)
        yield from answer_each(model, alone, prepared, tell_failed)


def _refused(error: ImageError | str) -> Failure:
    return Failure(error.kind if isinstance(error, ImageError) else UNREADABLE, error)

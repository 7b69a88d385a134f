"""What a predictor of one's own gives, held against the contract."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any

import orjson

from Modelling.errors import shortened
from Modelling.predictor import Answer, is_reserved

# Of an answer as JSON. A line of the queue may have 1 MiB, and the pipeline adds to it.
MAX_ANSWER_BYTES = 512 << 10

# The character NUL as JSON has it: behind backslashes in pairs, which are backslashes of the text.
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# For one batch: more than any has items. One who answers for ever shall be told so.
MAX_ANSWERS = 1 << 16


class AnswerError(Exception):
    """Raised when a predictor of one's own breaks the contract; the text says how."""


def checked_preparation(prepared: Any, count: int) -> tuple[Any, list[str | None]]:
    """Make sure that what was prepared is a batch, with an error or none for each item.

    Raises:
        AnswerError: It is not; the text says why.
    """
    if not isinstance(prepared, (tuple, list)) or len(prepared) != 2:
        raise AnswerError(
            f"prepare_batch gave {shortened(repr(prepared), 80)}, not a batch and the errors"
        )
    batch, errors = prepared
    if not isinstance(errors, Collection) or isinstance(errors, (Mapping, Set, str, bytes)):
        raise AnswerError(
            f"prepare_batch gave {shortened(repr(errors), 80)} as errors, not a list with None or "
            "a text for each item"
        )
    if len(errors) != count:
        raise AnswerError(f"prepare_batch gave {len(errors)} errors for {count} items")
    return batch, [_error_of(error) for error in errors]


def _error_of(error: Any) -> str | None:
    if error is None or isinstance(error, (str, BaseException)):
        return None if error is None else shortened(error)
    raise AnswerError(f"an error must be None or a text, not {shortened(repr(error), 80)}")


def checked_answers(given: Any) -> list[Answer]:
    """Make sure that answers are some, and that a result can hold each.

    Raises:
        AnswerError: One is none; the text says why.
    """
    if not isinstance(given, Iterable) or isinstance(given, (Mapping, str, bytes)):
        raise AnswerError(f"predict gave {shortened(repr(given), 80)}, not a list of answers")
    # One after another, as they are given: the next may be made of the same parts.
    answers = [checked_answer(each) for each in itertools.islice(given, MAX_ANSWERS + 1)]
    if len(answers) > MAX_ANSWERS:
        raise AnswerError(f"it gave more than {MAX_ANSWERS:,} answers for one batch")
    return answers


def checked_answer(answer: Any) -> Answer:
    """Make sure that an answer is a JSON object that a result can hold.

    Returns:
        A copy: what a predictor uses again for its next answers is not stored yet.

    Raises:
        AnswerError: It is none; the text says why.
    """
    if not isinstance(answer, dict):
        raise AnswerError(f"an answer is {shortened(repr(answer))}: no JSON object")
    try:
        body = orjson.dumps(answer)
        json.dumps(answer, allow_nan=False)  # which orjson writes as null
    except (TypeError, ValueError, RecursionError) as error:
        how = "; .item() or .tolist() makes it Python's" if "numpy." in str(error) else ""
        raise AnswerError(f"an answer is no JSON: {shortened(error)}{how}") from None
    if len(body) > MAX_ANSWER_BYTES:
        raise AnswerError(f"an answer has {len(body):,} bytes, {MAX_ANSWER_BYTES:,} are the most")
    if NUL.search(body):
        raise AnswerError("an answer holds the character NUL, which not every database can store")
    answer = orjson.loads(body)
    reserved = sorted(filter(is_reserved, answer))
    if reserved:
        raise AnswerError(f"an answer has names of the pipeline's own: {', '.join(reserved)[:80]}")
    if all(answer[name] is None for name in answer):
        raise AnswerError("an answer says nothing")
    label = answer.get("label", "a label")
    if not isinstance(label, str) or not label:
        raise AnswerError(f"label must be a text, not {shortened(repr(label))}")
    index, confidence = answer.get("class_index", 0), answer.get("confidence", 0)
    if type(index) is not int or index < 0:
        raise AnswerError(f"class_index must be a number from 0, not {shortened(repr(index))}")
    if type(confidence) not in (int, float) or not 0 <= confidence <= 1:
        raise AnswerError(
            f"confidence must be a number from 0 to 1, not {shortened(repr(confidence))}"
        )
    checked: Answer = answer
    return checked

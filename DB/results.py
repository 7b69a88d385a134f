"""What is the same for all engines: how results are checked and compared, and which are new.

An id is stored once. Whoever brings it again either says the same (a duplicate) or something else
(a conflict). What a result says is its label; one without a label says all its fields but those
that the pipeline itself adds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from DB.errors import DatabaseRecordError
from DurableText import codec
from DurableText.moments import seconds_of

# What the DB adds to a result.
ADDED = ("crc", "stored_at")

# Fields that say who, when and how, not what; all that end in `_at` are of this kind too.
RESERVED = frozenset(
    ("id", "label", "model", "source", "expected_label", "traceparent", "top", "unsure", "seq")
) | frozenset(ADDED)
TIME_SUFFIX = "_at"

# A NUL in JSON: PostgreSQL has no text with it. The backslashes before it are in pairs: those are
# backslashes of the text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# By its number: looking for a byte takes a tenth of the time that a search for bytes does.
_BACKSLASH = 0x5C

Result = Mapping[str, Any]


@dataclass(frozen=True)
class InsertOutcome:
    """What became of the results of one `insert`, by id, in their order."""

    inserted_ids: tuple[str, ...] = ()
    duplicate_ids: tuple[str, ...] = ()
    conflict_ids: tuple[str, ...] = ()

    def __add__(self, other: InsertOutcome) -> InsertOutcome:
        return InsertOutcome(
            self.inserted_ids + other.inserted_ids,
            self.duplicate_ids + other.duplicate_ids,
            self.conflict_ids + other.conflict_ids,
        )

    @property
    def inserted(self) -> int:
        """How many were stored."""
        return len(self.inserted_ids)

    @property
    def duplicates(self) -> int:
        """How many were stored already, saying the same."""
        return len(self.duplicate_ids)

    @property
    def conflicts(self) -> int:
        """How many were stored already, saying something else."""
        return len(self.conflict_ids)


@dataclass(frozen=True)
class Sorted:
    """Results of one insert, told apart.

    Attributes:
        outcome: the ids.
        new: numbers of the results that are to be stored, ascending.
        conflicting: numbers of those that say something else than what is stored, each with the
            number of the new result that it differs from; None if that was stored before.
    """

    outcome: InsertOutcome
    new: list[int]
    conflicting: list[tuple[int, int | None]]


def encode(results: Sequence[Result]) -> list[bytes]:
    """Return each result as JSON without its outer braces.

    Raises:
        DatabaseRecordError: one of them cannot be stored, on whatever engine.
    """
    bodies: list[bytes] = []
    refused: dict[int, str] = {}
    for number, result in enumerate(results):
        try:
            body = codec.encode(result, ADDED)
        except codec.RecordError as error:
            refused[number] = str(error)
            continue
        result_id = result.get("id")
        if not isinstance(result_id, str) or not result_id:
            refused[number] = f"its id must be a text, not {result_id!r:.200}"
        elif _BACKSLASH in body and _NUL.search(body):
            refused[number] = f"a text of {result_id!r:.200} holds the character NUL"
        bodies.append(body)
    if refused:
        raise refusal(refused)
    return bodies


def check(results: Sequence[Result]) -> int:
    """Refuse what `encode` refuses, for an engine that encodes by itself; return the size in bytes.

    All are looked at together, and one by one only where something may be wrong. That is 1 µs a
    result less, of the 4 that PostgreSQL's client may take.

    Raises:
        DatabaseRecordError: one of them cannot be stored, on whatever engine.
    """
    try:
        together = orjson.dumps(list(results))
    except TypeError:
        together = b""
    crc, stored_at = ADDED
    fine = 0 < len(together) <= codec.MAX_LINE_BYTES // 2 and b"\\u0000" not in together
    if fine and all(
        isinstance(result, dict)
        and isinstance(result_id := result.get("id"), str)
        and result_id
        and crc not in result
        and stored_at not in result
        for result in results
    ):
        return len(together)
    return sum(map(len, encode(results)))


def refusal(refused: Mapping[int, str]) -> DatabaseRecordError:
    """Return the error that names the results which cannot be stored, with what is wrong."""
    number, problem = min(refused.items())
    others = f", and {len(refused) - 1} others" if len(refused) > 1 else ""
    return DatabaseRecordError(f"result {number}: {problem}{others}; nothing was stored", refused)


def answer_of(result: Result) -> str:
    """Return what a result says, as a text that can be compared.

    A label that is a text stands for itself, behind a `=`; whatever else goes as a digest of its
    JSON, in which NaN is null and a tuple is a list: as it reads when it comes back from the DB.
    """
    label = result.get("label")
    if isinstance(label, str):
        return f"={label}"
    said = {"label": label}
    if label is None or orjson.dumps(label) == b"null":
        said = {
            name: value
            for name, value in result.items()
            if name not in RESERVED and not name.endswith(TIME_SUFFIX)
        }
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def columns_of(result: Result) -> tuple[str | None, str | None]:
    """Return what a result says in two columns: a label that is a text, or else a digest."""
    label = result.get("label")
    return (label, None) if isinstance(label, str) else (None, answer_of(result))


def answer_in(label: str | None, digest: str | None) -> str:
    """Return what two columns say: the opposite of `columns_of`."""
    return f"={label}" if digest is None else digest


def answer_digest(result: Result) -> str:
    """Return what a result says in a text of one length: the key of a conflict."""
    return sha256(answer_of(result).encode()).hexdigest()


def sort_out(results: Sequence[Result], keys: Sequence[str], stored: Mapping[str, str]) -> Sorted:
    """Tell new results, duplicates and conflicts apart.

    Args:
        results: in their order; the first of several with one key is the one that is stored.
        keys: what each is known by: its id; a shadow's, id and model.
        stored: what the DB had before, by key: see `answer_of`.
    """
    duplicates, conflicts = [], []
    conflicting: list[tuple[int, int | None]] = []
    firsts: dict[str, int] = {}
    for number, key in enumerate(keys):
        if key not in stored and firsts.setdefault(key, number) == number:
            continue
        result, first = results[number], firsts.get(key)
        known = stored[key] if first is None else answer_of(results[first])
        if answer_of(result) == known:
            duplicates.append(result["id"])
        else:
            conflicts.append(result["id"])
            conflicting.append((number, first))
    new = list(firsts.values())
    inserted = [results[number]["id"] for number in new]
    assert len(inserted) + len(duplicates) + len(conflicts) == len(results)
    outcome = InsertOutcome(tuple(inserted), tuple(duplicates), tuple(conflicts))
    return Sorted(outcome, new, conflicting)


def shadow_key(result: Result, number: int = 0) -> str:
    """Return what a shadow's result is known by: its id and its model.

    Raises:
        DatabaseRecordError: it has no model; `number` says which of the results it is.
    """
    model = result.get("model")
    if not isinstance(model, str) or not model:
        raise refusal({number: f"its model must be a text, not {model!r:.200}"})
    return f"{result['id']}\0{model}"  # no text of a result holds a NUL


def split_times(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of a DB as results, and when each was stored.

    Raises:
        DatabaseRecordError: one of them is no row of a DB.
    """
    results, times = [], []
    for number, row in enumerate(rows):
        result = dict(row)
        stored_at = result.pop("stored_at", None)
        if seconds_of(stored_at) is None:
            raise refusal({number: f"its stored_at is no time: {stored_at!r:.200}"})
        results.append(result)
        times.append(stored_at)
    return results, times

"""Python of one's own is held against the contract: what it is, what it prepares and answers."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.sentiment import Sentiment
from Modelling.errors import CheckpointError
from Modelling.predictor import Item, Traits, traits_of
from Modelling.predictors.own_answers import AnswerError, checked_answer
from Modelling.predictors.own_python import OwnPredictor, OwnSource

CANNOT_BE_HAD = """
class Raising:
    def __init__(self, checkpoint, threads): 1 / 0

class Wanting:
    def __init__(self, checkpoint, threads, more): pass

class Bare:
    def __init__(self, checkpoint, threads): self.version = "bare@1"

class Cold(Bare):
    def prepare_batch(self, items): pass
    def predict(self, batch): pass
    def close(self): pass
    def warm_up(self): raise OSError("no licence")

class Unnamed(Cold):
    def __init__(self, checkpoint, threads): self.version = 1

class Awaited(Cold):
    async def predict(self, batch): pass

number = 7
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Class", "cannot be imported: ModuleNotFoundError"),
        ("broken_import:Class", "cannot be imported: SyntaxError"),
        ("examples.sentiment:Nobody", "cannot be imported: AttributeError"),
        ("examples.sentiment", "package.module:Class"),
        ("raising:Raising", "cannot be made: ZeroDivisionError"),
        ("raising:Wanting", "cannot be made: TypeError"),
        ("raising:Bare", "cannot be made: AnswerError: it has no warm_up, prepare_batch"),
        ("raising:Cold", "cannot be warmed up: OSError: no licence"),
        ("raising:Unnamed", "its version must be a text, not 1"),
        ("raising:Awaited", "predict must be plain functions, not `async`"),
        ("raising:number", "cannot be made: TypeError"),
        ("exits:Class", "cannot be imported: SystemExit"),
        ("cancelled:Class", "cannot be imported: CancelledError"),
        ("needs_more:Class", "cannot be imported: ModuleNotFoundError: .*no_such_package"),
        ("examples.:Class", "cannot be imported"),
        (".relative:Class", "cannot be imported"),
        ("pathlib:PurePath", "cannot be made"),
    ],
)
def test_a_predictor_that_cannot_be_had_is_named(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_import.py").write_text("class Class(:")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(7)\n")
    (tmp_path / "cancelled.py").write_text("import asyncio\nraise asyncio.CancelledError\n")
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    (tmp_path / "raising.py").write_text(CANNOT_BE_HAD)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        OwnSource(name, None, None).load(lambda: None)
    sys.modules.pop("raising", None)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "text", {}, {"label": None}, {"id": "x"}, {"received_at": "now"}, {"top": []},
        {"label": 7}, {"label": ""}, {"label": "a", "confidence": 1.5},
        {"label": "a", "confidence": np.float32(0.5)}, {"a": {"b": [math.inf]}}, {1: "x"},
        {"a": "\ud800"}, {"a": "x\0"}, {"a": "x" * (600 << 10)}, {"label": "a", "class_index": -1},
    ],
    ids=lambda answer: repr(answer)[:40],
)  # fmt: skip
def test_what_no_result_could_hold_is_no_answer(answer: Any) -> None:
    with pytest.raises(AnswerError):
        checked_answer(answer)


def test_answers_are_given_after_the_working_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    monkeypatch.chdir(folder)
    own = OwnPredictor(Sentiment(None, None))
    folder.rmdir()
    batch, errors = own.prepare_batch([Item(b"thanks", {})])
    assert (errors, len(own.predict(batch))) == ([None], 1)


class Prepared(Sentiment):
    """Prepares nothing; each test says how the rest goes."""

    def prepare_batch(self, items: Any) -> Any:
        return items, [None] * len(items)


def test_labels_are_told_where_it_has_a_list_of_texts(caplog: pytest.LogCaptureFixture) -> None:
    class Labelled(Prepared):
        labels: Any = ("cat", "dog")

    assert OwnPredictor(Labelled(None, None)).labels == ("cat", "dog")
    assert OwnPredictor(Prepared(None, None)).labels is None
    assert not caplog.records
    for other in ({"cat": 0}, {"cat"}, "cat", 7, ["cat", 1]):
        Labelled.labels = other
        assert OwnPredictor(Labelled(None, None)).labels is None
        assert "cannot be held against them" in caplog.records[-1].getMessage()


def test_items_cannot_be_put_in_another_order() -> None:
    class Sorting(Prepared):
        def prepare_batch(self, items: Any) -> Any:
            items.sort()
            return items, [None] * len(items)

    with pytest.raises(AttributeError):
        OwnPredictor(Sorting(None, None)).prepare_batch([Item(b"b", {}), Item(b"a", {})])


def test_an_answer_stays_what_it_was_when_it_was_given() -> None:
    class Reusing(Prepared):
        def predict(self, batch: Any) -> Any:
            for number, _ in enumerate(batch):
                scores[0] = number
                yield {"scores": scores}

    scores = [0]
    own = OwnPredictor(Reusing(None, None))
    answers = own.predict([b"a", b"b"])
    own.predict([b"c"] * 7)
    assert answers == [{"scores": [0]}, {"scores": [1]}]


def test_what_to_do_with_numbers_of_numpy_is_said() -> None:
    with pytest.raises(AnswerError, match=r"numpy\.float32; \.item\(\) or \.tolist\(\)"):
        checked_answer({"score": np.float32(1)})


@pytest.mark.parametrize("own_bytes", [-1, 1.5, None, "1", True])
def test_the_bytes_of_an_item_are_a_number(own_bytes: Any) -> None:
    class Sized(Sentiment):
        item_bytes = 4096

    assert OwnPredictor(Sized(None, None)).item_bytes == 4096
    assert traits_of(OwnPredictor(Sized(None, None))) == Traits(item_bytes=4096)
    assert traits_of(OwnPredictor(Sentiment(None, None))) == Traits()
    Sized.item_bytes = own_bytes
    with pytest.raises(AnswerError, match="item_bytes must be a number from 0"):
        OwnPredictor(Sized(None, None))


@pytest.mark.parametrize(
    ("prepared", "said"),
    [
        (([], []), "0 errors for 1 items"),
        (([], None), "gave None as errors"),
        (([], "x"), "gave 'x' as errors"),
        (([], {None}), "gave {None} as errors"),
        (([], {0: None}), "gave {0: None} as errors"),
        (([], [False]), "an error must be None or a text, not False"),
        (None, "gave None, not a batch and the errors"),
        ([b"x"], r"gave \[b'x'\], not a batch"),
    ],
)
def test_what_is_prepared_is_a_batch_with_an_error_or_none_for_each(
    prepared: Any, said: str
) -> None:
    class Forgetful:
        version = "f@1"

        def warm_up(self) -> None: ...
        def close(self) -> None: ...
        def predict(self, batch: Any) -> Any: ...
        def prepare_batch(self, items: Any) -> Any:
            return prepared

    with pytest.raises(AnswerError, match=said):
        OwnPredictor(Forgetful()).prepare_batch([Item(b"", {})])


class Leaving:
    """Its text, its length and its order are code that ends the program."""

    def leave(self, *_: Any) -> Any:
        raise SystemExit(4)

    __repr__ = __str__ = __len__ = leave


class LeavingList(Leaving, list[None]): ...


class LeavingError(Leaving, Exception): ...


def test_an_error_without_a_text_is_one() -> None:
    class Refuses(Prepared):
        def prepare_batch(self, items: Any) -> Any:
            return [], [LeavingError() for _ in items]

    own = OwnPredictor(Refuses(None, None))
    assert own.prepare_batch([Item(b"", {})]) == ([], ["LeavingError without a text"])


@pytest.mark.parametrize(
    "given", [Leaving(), ([], LeavingList([None])), ([], [Leaving()])], ids=range(3)
)
def test_what_it_gives_cannot_end_the_server_either(given: Any) -> None:
    """The same item would end each server that comes after, and not be found out."""

    class Prepares(Prepared):
        def prepare_batch(self, items: Any) -> Any:
            return given

        def predict(self, batch: Any) -> Any:
            raise SystemExit(Leaving())

    own = OwnPredictor(Prepares(None, None))
    with pytest.raises(AnswerError, match=r"it called sys\.exit\(4\)"):
        own.prepare_batch([Item(b"", {})])
    with pytest.raises(AnswerError, match=r"sys\.exit\(SystemExit without a text\)"):
        own.predict([])

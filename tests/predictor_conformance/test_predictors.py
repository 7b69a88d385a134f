"""What every predictor promises; see `Modelling/predictor.py`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from Modelling.predictor import is_reserved
from tests.predictor_conformance.conftest import UnderTest

# The pipeline's own, which an image classifier adds where `--top` asks for it.
TOP = "top"


def answers_to(under_test: UnderTest, items: list[Any]) -> list[dict[str, Any]]:
    batch, errors = under_test.predictor.prepare_batch(items)
    assert not any(errors)
    return list(under_test.predictor.predict(batch))


def test_each_item_gets_an_answer_in_order_whatever_the_batch(under_test: UnderTest) -> None:
    together = answers_to(under_test, under_test.good)
    alone = [answers_to(under_test, [item])[0] for item in under_test.good]
    assert len(together) == len(under_test.good)
    for one, other in zip(together, alone, strict=True):
        assert one.get("label") == other.get("label")
        assert one.get("confidence") == pytest.approx(other.get("confidence"), abs=1e-3)
    assert len({orjson.dumps(each) for each in together}) > 1


def test_an_answer_is_a_json_object_with_no_name_of_the_pipelines(under_test: UnderTest) -> None:
    for answer in answers_to(under_test, under_test.good):
        assert orjson.loads(orjson.dumps(answer)) == answer
        assert not [name for name in answer if is_reserved(name) and name != TOP]
        assert 0 <= answer.get("confidence", 0) <= 1
        assert isinstance(answer.get("label", ""), str)


def test_a_bad_item_costs_itself_wherever_it_stands(under_test: UnderTest) -> None:
    good, bad = under_test.good, under_test.bad
    expected = answers_to(under_test, good)
    for place in (0, 3, len(good)):
        batch, errors = under_test.predictor.prepare_batch([*good[:place], bad, *good[place:]])
        assert [number for number, error in enumerate(errors) if error is not None] == [place]
        assert str(errors[place])
        labels = [answer.get("label") for answer in under_test.predictor.predict(batch)]
        assert labels == [answer.get("label") for answer in expected]


def test_a_batch_without_a_good_item_has_an_error_for_each(under_test: UnderTest) -> None:
    _, errors = under_test.predictor.prepare_batch([under_test.bad] * 2)
    assert len(errors) == 2
    assert all(errors)


def test_items_are_prepared_in_many_threads_while_one_predicts(under_test: UnderTest) -> None:
    expected = answers_to(under_test, under_test.good)
    start = threading.Barrier(4)

    def prepare(_number: int) -> Any:
        start.wait(10)
        return under_test.predictor.prepare_batch(under_test.good)[0]

    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(prepare, range(4)))
    assert all(list(under_test.predictor.predict(batch)) == expected for batch in batches)


def test_the_version_names_the_model(under_test: UnderTest) -> None:
    assert under_test.predictor.version.strip()

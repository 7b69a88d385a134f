"""How many images the model server takes at once."""

from __future__ import annotations

import pytest

from Pipeline.serving.batch_size import FIRST_SIZE, QUICK_SECONDS, BatchSize


@pytest.mark.parametrize(
    ("most", "milliseconds_each", "expected"),
    [
        pytest.param(1024, 0.04, 1024, id="a quick model takes all it may"),
        pytest.param(1024, 0.5, 500, id="one between takes what it answers in time"),
        pytest.param(1024, 20, FIRST_SIZE, id="a slow one takes no more than at first"),
        pytest.param(100, 0.04, 100, id="the option is never exceeded"),
        pytest.param(1, 20, 1, id="nor is it for a slow one"),
    ],
)
def test_the_size_follows_the_model(most: int, milliseconds_each: float, expected: int) -> None:
    size = BatchSize(most)
    assert size.current <= FIRST_SIZE
    for _ in range(5):
        size.after(size.current, size.current * milliseconds_each / 1000)
    assert size.current == expected


def test_it_falls_again_when_the_model_becomes_slow() -> None:
    size = BatchSize(1024)
    size.after(FIRST_SIZE, 0.001)
    size.after(1024, 4 * QUICK_SECONDS)
    assert size.current == FIRST_SIZE


def test_a_batch_that_was_not_full_tells_nothing() -> None:
    size = BatchSize(1024)
    size.after(1, QUICK_SECONDS)
    size.after(1, 1e-9)
    assert size.current == FIRST_SIZE

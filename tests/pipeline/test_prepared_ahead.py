"""A batch of photographs is prepared and predicted at the same time, piece by piece."""

from __future__ import annotations

import threading

import pytest

from Pipeline.serving.ahead import pieces_of, prepared_ahead

# Seconds until a thread that should have begun has not.
LONG = 10


def test_a_batch_of_small_images_is_one_piece() -> None:
    assert pieces_of([900] * 256) == [slice(0, 256)]
    assert pieces_of([]) == [slice(0, 0)]


def test_pieces_are_bounded_and_in_order() -> None:
    assert pieces_of([4, 5, 1, 20, 3], 10) == [slice(0, 3), slice(3, 4), slice(4, 5)]


def test_the_next_piece_is_prepared_while_one_is_predicted() -> None:
    begun = {piece: threading.Event() for piece in "abc"}

    def prepare(piece: str) -> str:
        begun[piece].set()
        return piece.upper()

    seen = []
    for piece, prepared in prepared_ahead(prepare, "abc"):
        following = chr(ord(piece) + 1)
        assert following not in begun or begun[following].wait(LONG)
        assert chr(ord(piece) + 2) not in begun or not begun[chr(ord(piece) + 2)].is_set()
        seen.append((piece, prepared()))
    assert seen == [("a", "A"), ("b", "B"), ("c", "C")]


def test_a_piece_that_cannot_be_prepared_does_not_end_the_others() -> None:
    def prepare(piece: int) -> int:
        return 12 // piece

    results = []
    for _, prepared in prepared_ahead(prepare, [3, 0, 4]):
        try:
            results.append(prepared())
        except ZeroDivisionError:
            results.append(-1)
    assert results == [4, -1, 3]
    with pytest.raises(ZeroDivisionError):
        next(iter(prepared_ahead(prepare, [0])))[1]()

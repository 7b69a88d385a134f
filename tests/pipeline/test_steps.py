"""Receiving, working and storing: beside each other where there is much, else by one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from Pipeline.serving.steps import in_steps
from Pipeline.stop import Stop

PATIENCE_SECONDS = 30.0


class Log:
    """What was done, and by which thread."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.threads: dict[str, set[int]] = {"receive": set(), "work": set(), "store": set()}

    def note(self, step: str, batch: int) -> int:
        self.done.append((step, batch))
        self.threads[step].add(threading.get_ident())
        return batch

    def received(self, *batches: int) -> Iterator[int]:
        for batch in batches:
            yield self.note("receive", batch)

    def work(self, batch: int) -> int:
        return self.note("work", batch)

    def store(self, batch: int) -> None:
        self.note("store", batch)

    def of(self, step: str) -> list[int]:
        return [batch for name, batch in self.done if name == step]


def always(_batch: int) -> bool:
    return True


def never(_batch: int) -> bool:
    return False


def test_a_small_batch_stays_in_one_thread_from_its_beginning_to_its_end() -> None:
    log = Log()
    in_steps(log.received(1, 2, 3), log.work, log.store, never, Stop())
    here = {threading.get_ident()}
    assert log.threads == {"receive": here, "work": here, "store": here}
    assert log.of("store") == [1, 2, 3]


def test_a_large_batch_is_worked_on_while_the_next_is_received_and_the_last_is_stored() -> None:
    """Each waits for another: one after the other they would wait for ever."""
    log = Log()
    is_received, is_stored = threading.Event(), threading.Event()

    def received() -> Iterator[int]:
        yield from log.received(1)
        is_received.set()
        yield from log.received(2)

    def work(batch: int) -> int:
        assert is_received.wait(PATIENCE_SECONDS)
        if batch == 2:
            is_stored.set()
        return log.work(batch)

    def store(batch: int) -> None:
        assert is_stored.wait(PATIENCE_SECONDS)
        log.store(batch)

    in_steps(received(), work, store, always, Stop())
    assert log.of("store") == [1, 2]


@pytest.mark.parametrize("is_large", [always, never, lambda batch: batch % 3 == 0])
def test_all_is_worked_on_by_one_thread_and_stored_in_order(
    is_large: Callable[[int], bool],
) -> None:
    log = Log()
    in_steps(log.received(*range(1, 30)), log.work, log.store, is_large, Stop())
    assert log.threads["work"] == {threading.get_ident()}
    assert log.of("work") == log.of("store") == list(range(1, 30))


@pytest.mark.parametrize("is_large", [always, never])
@pytest.mark.parametrize("step", ["receive", "work", "store"])
def test_a_step_that_fails_ends_all_and_nothing_more_is_stored(
    step: str, is_large: Callable[[int], bool]
) -> None:
    """What is received waits for the stop, as a subscription does where nothing comes."""
    log, stop = Log(), Stop()

    def failing(name: str, batch: int) -> int:
        if name == step and batch == 2:
            raise ZeroDivisionError
        return log.note(name, batch)

    def received() -> Iterator[int]:
        for batch in (1, 2, 3):
            yield failing("receive", batch)
        assert stop.wait(PATIENCE_SECONDS), "nobody was told"

    with pytest.raises(ZeroDivisionError):
        in_steps(
            received(),
            lambda batch: failing("work", batch),
            lambda batch: void(failing("store", batch)),
            is_large,
            stop,
        )
    assert stop.requested
    assert log.of("store") == [1]


def void(_value: object) -> None:
    """Return nothing."""

"""Who was in flight when the server died, and what follows from it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from Pipeline.serving.in_flight import InFlight, Suspicion


def crash(queue: Path, *message_ids: str) -> None:
    """A server that dies while it works on these."""
    journal = InFlight(queue)
    journal._write(message_ids)
    journal.close()


def test_a_process_that_was_forked_meanwhile_does_not_hold_the_journal_on(tmp_path: Path) -> None:
    journal = InFlight(tmp_path / "log.txt")
    journal._write(["x"])
    reader, writer = os.pipe()
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.write(tells, b"!")
        os.read(reader, 1)
        os._exit(0)
    os.read(told, 1)
    journal.close()  # as where the server is killed
    successor = InFlight(tmp_path / "log.txt")
    for each in (reader, writer, told, tells):
        os.close(each)
    os.waitpid(child, 0)
    assert successor._crashes == {"x": 1}
    successor.close()


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def test_three_crashes_make_a_suspect_and_the_fourth_condemns(queue: Path) -> None:
    told = []
    for _start in range(5):
        journal = InFlight(queue)
        told.append(journal.suspicion("x"))
        journal._write(["x"])  # and dies
        journal.close()
    assert told == [*[Suspicion.NONE] * 3, Suspicion.ALONE, Suspicion.CONDEMNED]


def test_whoever_comes_through_is_acquitted(queue: Path) -> None:
    for _ in range(3):
        crash(queue, "good", "bad")
    journal = InFlight(queue)
    assert journal.suspicion("good") is Suspicion.ALONE
    with journal.working_on(["good"]):
        pass
    assert journal.suspicion("good") is Suspicion.NONE
    assert journal.suspicion("bad") is Suspicion.ALONE


def test_a_clean_end_blames_nobody(queue: Path) -> None:
    for _ in range(10):
        journal = InFlight(queue)
        with journal.working_on(["x"]):
            pass
        journal.close()
    assert InFlight(queue).suspicion("x") is Suspicion.NONE


def test_two_servers_on_a_queue_keep_two_journals(queue: Path) -> None:
    first, second = InFlight(queue), InFlight(queue)
    with first.working_on(["x"]), second.working_on(["y"]):
        assert len(list(queue.parent.glob("log.in_flight.*.json"))) == 2


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"crashes": 3}', b"\0" * 100])
def test_a_damaged_journal_begins_anew(queue: Path, damage: bytes) -> None:
    crash(queue, "x")
    queue.with_name("log.in_flight.0.json").write_bytes(damage)
    assert InFlight(queue).suspicion("x") is Suspicion.NONE


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_costs_the_guard_and_not_the_images(
    queue: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("Pipeline.serving.in_flight.os.pwrite", refuse)
    journal = InFlight(queue)  # also at the start
    for _ in range(2):
        with journal.working_on(["x"]):
            pass
    assert caplog.text.count("cannot be written (No space left on device)") == 1

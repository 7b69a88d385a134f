"""Which publisher is at work is what its queue says, whatever a lock's note reads like."""

from __future__ import annotations

import errno
from argparse import Namespace
from pathlib import Path

import pytest

from DurableText import lock
from DurableText.storage import Storage
from MessageBroker.local_handler import LocalHandler
from Pipeline.observability.metrics import Metrics
from Pipeline.script.script import Script
from Pipeline.serving.batches import take_batches
from Pipeline.stop import Stop
from Queue import FileQueue


class NoteRefused(Storage):
    """A disk without room for the note of who holds a lock."""

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if b'"pid"' in bytes(data):
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().write(fd, data, offset)


class Told(Metrics):
    """Note what is told of standing by; ask the script to end when it still does so."""

    def __init__(self, stop: Stop) -> None:
        self.stood_by: list[bool] = []
        self._stop = stop

    def standing_by(self, yes: bool) -> None:
        self.stood_by.append(yes)
        if self.stood_by.count(True) > 1:
            self._stop.request()


def publish_nothing(queue: FileQueue, folder: Path) -> list[bool]:
    """Take from an empty queue until it was idle; return what was told of standing by."""
    stop = Stop()
    told = Told(stop)
    options = Namespace(queue=queue.path, batch_size=8, exit_when_idle=0.2)
    with LocalHandler(folder / "broker") as broker:
        assert list(take_batches(Script(options, stop, metrics=told), queue, broker)) == []
    return told.stood_by


def test_a_publisher_whose_note_the_disk_refuses_is_at_work(tmp_path: Path) -> None:
    with FileQueue(tmp_path / "log.txt", storage=NoteRefused()) as queue:
        assert publish_nothing(queue, tmp_path) == [False]


def test_a_publisher_is_at_work_in_whatever_words_the_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "describe_holder", lambda note: "this one")
    with FileQueue(tmp_path / "log.txt") as queue:
        assert publish_nothing(queue, tmp_path) == [False]


def test_a_second_publisher_stands_by(tmp_path: Path) -> None:
    with FileQueue(tmp_path / "log.txt") as first, FileQueue(tmp_path / "log.txt") as second:
        first.take(1, timeout=0)
        assert [first.active, second.active] == [True, False]
        assert publish_nothing(second, tmp_path) == [True, True]
        first.close()
        assert publish_nothing(second, tmp_path) == [False]
        assert second.active

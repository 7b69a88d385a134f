"""What wakes a consumer that waits for the log to grow."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from DurableText.storage import STORAGE
from Queue.text.tail_watch import TailWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.txt").write_text("")
    return tmp_path / "log.txt"


@pytest.fixture
def watch(log: Path) -> Iterator[TailWatch]:
    watch = TailWatch(log, STORAGE)
    watch.drain()
    yield watch
    watch.close()


def is_woken(watch: TailWatch) -> bool:
    assert watch._inotify is not None
    return bool(select.select([watch._inotify.fd], [], [], 0)[0])


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("line\n")


def test_a_log_that_grows_wakes(watch: TailWatch, log: Path) -> None:
    append(log)
    assert is_woken(watch)
    watch.drain()
    assert not is_woken(watch)
    append(log)
    assert is_woken(watch)


def test_what_else_is_written_in_its_folder_wakes_nobody(watch: TailWatch, log: Path) -> None:
    others = [log.with_name(name) for name in ("log.cursor", "log.in_flight.0.json")]
    for other in others:
        other.touch()
    watch.drain()
    for other in others:
        append(other)
    assert not is_woken(watch)


@pytest.mark.parametrize("looks_between", [False, True])
def test_a_sealed_log_and_the_new_one_wake(
    watch: TailWatch, log: Path, looks_between: bool
) -> None:
    log.rename(log.with_name("log.1.txt"))
    assert is_woken(watch)
    if looks_between:  # where there is no log at all
        watch.drain()
        assert not is_woken(watch)
    log.touch()
    assert is_woken(watch)
    watch.drain()
    append(log)
    assert is_woken(watch)


def test_without_a_watch_for_the_log_the_log_is_looked_at(
    watch: TailWatch, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's watches are counted, and one that is not given must not cost a record."""

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(watch._inotify, "_watch", refuse)
    log.rename(log.with_name("log.1.txt"))
    log.touch()
    watch.drain()
    append(log)
    watch.wait(60.0)
    assert watch._inotify is None

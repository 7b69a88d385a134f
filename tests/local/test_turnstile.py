"""A lock that hangs is not waited for without end, and who holds it is told; it is never broken."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local.turnstile import Turnstile
from tests.pipeline.runner import ROOT
from tests.waiting import wait_until

HOLDER = """
import fcntl, os, signal, sys
from pathlib import Path
from MessageBroker.local.turnstile import Turnstile
path = Path(sys.argv[1])
turnstile = Turnstile(path)
with turnstile.held():
    os.kill(os.getpid(), signal.SIGSTOP)
"""
TURN_HOLDER = """
import fcntl, os, signal, sys
from pathlib import Path
turn = Path(sys.argv[1]).with_suffix(".turn").open("ab")
Path(sys.argv[1]).with_suffix(".lock").open("ab").close()
fcntl.flock(turn, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stopped(script: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `script` and was stopped, or has stopped itself, in it."""
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "topic.sqlite"


@pytest.mark.parametrize("script", [HOLDER, TURN_HOLDER], ids=["the lock", "the turn"])
def test_whoever_waits_for_a_stopped_process_is_told_which(script: str, path: Path) -> None:
    with stopped(script, path) as holder:
        turnstile = Turnstile(path)
        for _ in range(3):
            with (
                pytest.raises(BrokerUnavailableError, match=f"kill -CONT {holder.pid}"),
                turnstile.held(0.05),
            ):
                pytest.fail("two hold the lock")
        waiting = [each for each in threading.enumerate() if each.name == "waiting for a lock"]
        assert len(waiting) == 1, "each try leaves a thread behind"

        holder.kill()

        with turnstile.held(60):
            pass
    turnstile.close()


def test_a_lock_that_was_given_up_is_not_kept_when_it_comes_after_all(path: Path) -> None:
    first, second = Turnstile(path), Turnstile(path)
    with first.held():
        with pytest.raises(BrokerUnavailableError), second.held(0.05):
            pytest.fail("two hold the lock")
        place = second._place
    assert place is not None
    wait_until(lambda: place._passed, "its turn has come, and nobody wants it")

    with first.held(10), pytest.raises(BrokerUnavailableError), second.held(0.05):
        pytest.fail("two hold the lock")
    with second.held(10):
        pass
    first.close()
    second.close()


def test_a_turnstile_that_is_closed_while_it_waits_leaves_no_lock(path: Path) -> None:
    first, second = Turnstile(path), Turnstile(path)
    with first.held():
        with pytest.raises(BrokerUnavailableError), second.held(0.05):
            pytest.fail("two hold the lock")
        second.close()
        assert not second._lock.closed
    wait_until(lambda: second._lock.closed, "its files are closed when its turn has come")

    with first.held(10):
        pass
    first.close()


def test_nobody_is_overtaken_for_long(path: Path) -> None:
    Turnstile(path).close()
    ending = threading.Event()
    entered = [0] * 3

    def enter_again_and_again(number: int) -> None:
        turnstile = Turnstile(path)
        while not ending.is_set():
            with turnstile.held(60):
                entered[number] += 1
                time.sleep(0.001)
        turnstile.close()

    threads = [threading.Thread(target=enter_again_and_again, args=(each,)) for each in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(entered) > 300, "they take turns")
    ending.set()
    for thread in threads:
        thread.join()

    assert min(entered) > sum(entered) / 6, entered


def test_a_signal_that_ends_the_waiting_leaves_no_lock(path: Path) -> None:
    first, second = Turnstile(path), Turnstile(path)

    def interrupt(*_: object) -> None:
        raise InterruptedError("ended by a signal")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with first.held():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(InterruptedError), second.held(60):
                pytest.fail("two hold the lock")
    finally:
        signal.signal(signal.SIGALRM, before)
    for turnstile in (first, second, first):
        with turnstile.held(10):
            pass
    first.close()
    second.close()


@pytest.mark.parametrize("call", [1, 2, 3], ids=["the turn", "the lock", "the turn again"])
def test_an_interrupt_as_soon_as_a_lock_is_held_leaves_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls, flock = itertools.count(1), fcntl.flock

    def interrupt(file: IO[bytes], operation: int) -> None:
        flock(file, operation)
        if next(calls) == call:
            raise KeyboardInterrupt

    mine, other = Turnstile(path), Turnstile(path)
    monkeypatch.setattr(fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt), mine.held():
        pass
    monkeypatch.setattr(fcntl, "flock", flock)

    with other.held(patience=0.5):
        pass


def test_a_child_made_by_fork_does_not_hold_the_lock_of_its_dead_parent(path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from MessageBroker.local.turnstile import Turnstile
with Turnstile(Path(sys.argv[1])).held():
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    signal.pause()
"""
    command = [sys.executable, "-c", script, str(path)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        parent.stdout.close()

        with Turnstile(path).held(10):
            pass
    finally:
        os.kill(child, signal.SIGKILL)

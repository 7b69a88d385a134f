"""Who holds the lock is told; it is never broken."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from MessageBroker import local_turnstile
from MessageBroker.local_turnstile import Turnstile
from tests.pipeline.runner import ROOT, wait_until

HOLDER = """
import os, signal, sys
from pathlib import Path
from MessageBroker.local_turnstile import Turnstile
with Turnstile(Path(sys.argv[1])).held():
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_process_that_was_stopped_with_the_lock_is_named_and_its_death_lets_others_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local_turnstile, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(local_turnstile, "LOOK_SECONDS", 0.05)
    path = tmp_path / "topic.sqlite"
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    entered = threading.Event()

    def enter() -> None:
        with Turnstile(path).held():
            entered.set()

    with caplog.at_level(logging.ERROR):
        waiting = threading.Thread(target=enter)
        waiting.start()
        wait_until(
            lambda: f"kill -CONT {holder.pid}" in caplog.text, "the log names the holder", 20
        )
        assert not entered.is_set()
        holder.send_signal(signal.SIGKILL)
        waiting.join(20)
    assert entered.is_set()
    holder.wait()

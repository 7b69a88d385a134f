"""What code of others does to the process is undone; what cannot be undone ends it, in a line."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predictors.own_python import OwnSource
from Modelling.predictors.surroundings import SHARED, Surroundings

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def fewer_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def smaller_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


# By the act what it does and what it does it to.
ACTS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "new files for nobody": (lambda: os.umask(0o777), umask),
    "fewer open files": (fewer_files, lambda: resource.getrlimit(resource.RLIMIT_NOFILE)),
    "files of no byte": (smaller_files, lambda: resource.getrlimit(resource.RLIMIT_FSIZE)),
    "warnings are errors": (lambda: warnings.simplefilter("error"), lambda: warnings.filters[0]),
    "few calls": (lambda: sys.setrecursionlimit(500), sys.getrecursionlimit),
    "no turn for others": (lambda: sys.setswitchinterval(600), sys.getswitchinterval),
    "no timeouts": (lambda: socket.setdefaulttimeout(0.001), socket.getdefaulttimeout),
    "children are not waited for": (
        lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        lambda: signal.getsignal(signal.SIGCHLD),
    ),
    "a closed pipe ends the process": (
        lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
        lambda: signal.getsignal(signal.SIGPIPE),
    ),
    "threads end unheard": (
        lambda: setattr(threading, "excepthook", print),
        lambda: threading.excepthook,
    ),
    "nobody sleeps": (lambda: setattr(time, "sleep", print), lambda: time.sleep),
    "other sockets": (lambda: setattr(socket, "socket", print), lambda: socket.socket),
    "another select": (lambda: setattr(select, "select", print), lambda: select.select),
}


@pytest.fixture
def undone() -> Iterator[None]:
    """Put back what a restore that fails would leave to the tests that follow."""
    attributes = [(module, name, getattr(module, name)) for module, name in SHARED]
    attributes.append((threading, "excepthook", threading.excepthook))
    handlers = {each: signal.getsignal(each) for each in (signal.SIGCHLD, signal.SIGPIPE)}
    limits = {
        each: resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    }
    recursion, interval, mask = sys.getrecursionlimit(), sys.getswitchinterval(), umask()
    with warnings.catch_warnings():
        yield
    for module, name, value in attributes:
        setattr(module, name, value)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for number, limit in limits.items():
        resource.setrlimit(number, limit)
    sys.setrecursionlimit(recursion)
    sys.setswitchinterval(interval)
    socket.setdefaulttimeout(None)
    os.umask(mask)


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("act", ACTS)
def test_what_is_done_to_the_process_is_undone(act: str) -> None:
    do, state = ACTS[act]
    surroundings = Surroundings()
    before = state()
    do()
    assert state() != before
    surroundings.restore()
    assert state() == before


@pytest.mark.usefixtures("undone")
def test_more_than_the_script_needs_is_left() -> None:
    """More calls inside of each other, or warnings that nobody sees, a framework may want."""
    surroundings = Surroundings()
    recursion = sys.getrecursionlimit() + 5000
    sys.setrecursionlimit(recursion)
    warnings.simplefilter("ignore", UserWarning)
    surroundings.restore()
    assert sys.getrecursionlimit() == recursion
    assert warnings.filters[0][0] == "ignore"


ENDS = """
import logging, os, resource, sys
sys.path.insert(0, {root!r})
from DurableText import standard_streams
standard_streams.prepare()
logging.basicConfig()
from Modelling.predictors.surroundings import Surroundings
surroundings = Surroundings()
{act}
opened = open(os.devnull)
surroundings.restore()
"""

FOR_GOOD = """
def refuse(*_): raise ValueError("not allowed to raise maximum limit")
resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
resource.setrlimit = refuse
"""


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("os.closerange(3, 4096)", "has closed files of this process"),
        ("os.closerange(3, 9)", "has closed files of this process"),
        ("os.closerange(20, 4096)", "has closed files of this process"),
        ("os.closerange(0, 4096)", ""),  # there is nothing left to say it by
        (FOR_GOOD, "has lowered limits of this process for good"),
    ],
    ids=["all", "the low ones", "the high ones", "also the standard streams", "limits"],
)
def test_what_cannot_be_undone_ends_the_process_in_a_line(act: str, said: str) -> None:
    code = ENDS.format(root=str(ROOT), act=act)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == bool(said)


PATCHES = """
import time
from examples.sentiment import Sentiment

def sleep(seconds): pass
time.sleep = sleep

class Patches(Sentiment): pass
"""


@pytest.mark.usefixtures("undone")
def test_a_predictor_that_replaces_what_all_threads_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patches.py").write_text(PATCHES)
    monkeypatch.syspath_prepend(tmp_path)
    sleep: Any = time.sleep
    with pytest.raises(CheckpointError, match=r"in the place of time\.sleep, which the whole"):
        OwnSource("patches:Patches", None, None).load(lambda: None)
    assert time.sleep is sleep

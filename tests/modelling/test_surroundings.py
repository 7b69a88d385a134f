"""What code of others does to the process is undone; what cannot be undone ends it, in a line."""

from __future__ import annotations

import gc
import io
import logging
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
from Modelling.predictors.surroundings import SETTINGS, SHARED, Surroundings

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def fewer_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def smaller_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


OURS = logging.getLogger("Modelling.tests")


def raises(*_: Any) -> Any:
    raise RuntimeError("of somebody else")


def root_handler() -> logging.StreamHandler[Any]:
    return next(
        each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)
    )


def of_root_handler() -> tuple[Any, ...]:
    handler = root_handler()
    return handler.level, handler.formatter, handler.stream, tuple(handler.filters)


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
    "no time passes": (lambda: setattr(time, "monotonic", lambda: 0.0), lambda: time.monotonic),
    "threads of a few pages": (lambda: threading.stack_size(1 << 15), threading.stack_size),
    "threads are traced": (lambda: threading.settrace(raises), threading.gettrace),
    "threads are profiled": (lambda: threading.setprofile(raises), threading.getprofile),
    "nobody collects": (gc.disable, gc.isenabled),
    "collecting all the time": (lambda: gc.set_threshold(1), gc.get_threshold),
    "no place for modules": (sys.path.clear, lambda: set(sys.path)),
    "no record can be made": (
        lambda: logging.setLogRecordFactory(raises),
        logging.getLogRecordFactory,
    ),
    "handlers that refuse": (lambda: root_handler().addFilter(lambda _: False), of_root_handler),
    "handlers of nothing": (lambda: root_handler().setLevel(99), of_root_handler),
    "handlers to elsewhere": (lambda: root_handler().setStream(io.StringIO()), of_root_handler),
    "lines that fail": (
        lambda: root_handler().setFormatter(logging.Formatter("{", style="{", validate=False)),
        of_root_handler,
    ),
    "loggers of nothing": (lambda: OURS.setLevel(99), lambda: OURS.level),
    "loggers that refuse": (lambda: OURS.addFilter(lambda _: False), lambda: list(OURS.filters)),
    "loggers to nobody": (lambda: setattr(OURS, "propagate", False), lambda: OURS.propagate),
    "the process ends soon": (
        lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 3600),
        lambda: signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0,
    ),
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
    settings = [(put, ask()) for ask, put in SETTINGS]
    path, factory = list(sys.path), logging.getLogRecordFactory()
    written = [(each, dict(vars(each))) for each in (root_handler(), OURS)]
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
    for put, value in settings:
        put(value)
    os.umask(mask)
    sys.path[:] = path
    logging.setLogRecordFactory(factory)
    for each, content in written:
        vars(each).update(content, filters=[])
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


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
from DurableText.program import standard_streams
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

"""How several processes share the tests: `make test`, which is `pytest -n 6`.

Most tests wait for a broker; the others compute. So three processes wait, for Pub/Sub and for two
clusters of Kafka, while the others train models and run pipelines: what waits is dealt out such
that it is never done by all at once, nor by none. The tests of a group stay together, in one
process and in their usual order:

- those on the Pub/Sub emulator, those on Kafka, and all of `tests/kafka` and of `tests/diagnosis`,
  which have one of their own: each is started once, as it is in one process;
- the others by module: what a module's fixtures make is made once.

A process that has finished its groups takes the next one, so `STARTS_FIRST` names the long ones.
Without `-n`, only `pytest_configure` does anything.

Delete when pytest-xdist issue 1386 is closed: `GroupScheduling` and what it needs. `--dist
loadgroup` and a mark do the same then.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Generator
from types import FrameType
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.brokers.harness import BROKERS, LocalUnderTest

# What `running_broker` starts, but for the embedded broker: that is a folder.
SERVERS = sorted({*BROKERS} - {LocalUnderTest.name})
# Folders with a server of their own for all their tests.
HAVE_THEIR_OWN = ("tests/kafka", "tests/diagnosis")
# The beginnings of groups' names. What is not named is short, and lets both end at the same time.
STARTS_FIRST = (
    "pubsub",
    "kafka",
    "tests/kafka",
    "tests/modelling/",
    "tests/pipeline/",
    "tests/diagnosis",
    "examples/",
    "tests/operations/",
    "tests/durability/",
)
# For an interrupted test to stop its scripts, and then for the brokers; they need 1 to 3 s.
STOP_TIMEOUT_SECONDS = 30.0

_workers: list[Any] = []
_crashed: list[str] = []


def group_of(node_id: str) -> str:
    """Return what must not be split: the tests of a server, or of a module."""
    module, _, test = node_id.partition("::")
    if broker := re.search(rf"[\[-]({'|'.join(SERVERS)})[\]-]", test):
        return broker[1]
    return next((each for each in HAVE_THEIR_OWN if module.startswith(f"{each}/")), module)


def turn_of(group: str) -> int:
    """Return when the group starts, from 0."""
    for turn, beginning in enumerate(STARTS_FIRST):
        if group.startswith(beginning):
            return turn
    return len(STARTS_FIRST)


class GroupScheduling(LoadScopeScheduling):
    """Deals groups out, in the order of the tests.

    `--dist loadgroup` would, but it writes the groups into the node ids, which pytest 9.2 does not
    let it do any more: it splits all groups, without a word (pytest-xdist issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _reschedule(self, node: Any) -> None:
        """Give a process work until it has enough to go on, or end it if there is none.

        A process begins a test once it knows the next one. Where another one has crashed, xdist
        would deal out one group of what that had left, be it of one test or of none that is still
        to be done, and both would wait for ever.
        """
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Split no group, whatever `--dist` says."""
    config.option.loadscopereorder = False  # it would start what has most tests, however short
    return GroupScheduling(config, log)


@pytest.hookimpl(trylast=True)  # after pytest has put together what has the same broker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long groups first."""
    if _is_worker(config):
        items.sort(key=lambda item: turn_of(group_of(item.nodeid)))


def pytest_configure(config: pytest.Config) -> None:
    """End on SIGTERM as on Ctrl-C: with the brokers stopped, not left behind."""
    if _is_worker(config):
        signal.signal(signal.SIGINT, _interrupt_once)
        signal.signal(signal.SIGTERM, _interrupt_once)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node: Any) -> None:
    """Remember the worker."""
    _workers.append(node)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """Remember which test ended its process: another process runs it once more."""
    _crashed.append(crashitem)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Have `make test-failed` run what crashed, whatever became of it in another process.

    On Ctrl-C interrupt the workers too, and wait for them: xdist would kill them after ten seconds.
    """
    last_failed = session.config.pluginmanager.get_plugin("lfplugin")
    if last_failed is not None:
        last_failed.lastfailed.update(dict.fromkeys(_crashed, True))
    if not _workers or exitstatus != pytest.ExitCode.INTERRUPTED:
        return
    workers = psutil.Process().children()
    started_by_tests = {*psutil.Process().children(recursive=True)} - {*workers}
    for worker in workers:
        worker.terminate()
    for node in _workers:
        with contextlib.suppress(EOFError):  # it crashed
            node.channel.waitclose(STOP_TIMEOUT_SECONDS)
    for process in started_by_tests:  # an interrupted test may have left one
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Make a report UTF-8, as execnet sends it: a log may hold a file name that is none."""
    return _as_utf_8((yield))


def _as_utf_8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_utf_8(key): _as_utf_8(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_as_utf_8, value))
    return value


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C; but no second one interrupts what stops the brokers.

    A terminal sends SIGINT to the workers, `pytest_sessionfinish` sends SIGTERM, and execnet, which
    runs the workers, sends SIGINT once more.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt

"""What stands in the place of a file of the embedded broker, and is none: told at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from MessageBroker.errors import BrokerUnavailableError, ConfigurationError
from MessageBroker.local.whats_there import require_files
from MessageBroker.local_handler import LocalHandler
from tests.local.conftest import Connect
from tests.local.test_taken_away import file_of
from tests.pipeline.runner import ROOT

# Whoever is told at once has not waited for anything, on a busy machine either.
AT_ONCE_SECONDS = 5.0


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 107 bytes
        listener.bind(path.name)
        os.chdir(before)


# How it comes to be there, and what is said of it.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is a pipe"),
    "a socket": (_socket, "is a socket"),
    "a link": (lambda path: path.symlink_to(path.parent / "catalogue.sqlite"), "is a link to"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "where nothing is"),
}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_file_is_told_at_once(
    connect: Connect, folder: Path, what: str, suffix: str
) -> None:
    broker = connect()
    broker.create_topic("topic")
    path = file_of(folder, "topic").with_name(file_of(folder, "topic").name + suffix)
    path.unlink(missing_ok=True)
    make, said = WRONG[what]
    make(path)
    began = time.monotonic()

    for use in (broker.subscribe, broker.backlog, broker.create_topic):
        with pytest.raises(ConfigurationError, match=f"{path.name} .*{said}.*: move it away"):
            use("topic")

    with pytest.raises(ConfigurationError, match=said):
        broker.publish("topic", b"body").result(AT_ONCE_SECONDS)
    assert time.monotonic() - began < AT_ONCE_SECONDS


@pytest.mark.parametrize("name", ["catalogue.sqlite", "catalogue.lock", "catalogue.turn"])
def test_a_folder_in_the_place_of_the_catalogue_is_told_at_once(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / name).mkdir()
    with pytest.raises(ConfigurationError, match=f"{name} is a folder"):
        LocalHandler(folder)


def test_a_file_in_the_place_of_the_bells_is_told_at_once(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    file_of(folder, "topic").with_suffix(".bells").touch()
    with pytest.raises(ConfigurationError, match="bells is a file, where a folder"):
        broker.subscribe("topic")


def test_a_file_of_zeros_is_told_at_once(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    path = file_of(folder, "topic")
    path.unlink()
    path.write_bytes(bytes(16_384))
    with pytest.raises(ConfigurationError, match=r"is damaged .*: move its folder away"):
        broker.subscribe("topic")


AS_NOBODY = """
import os, sys
from pathlib import Path
from MessageBroker.errors import ConfigurationError
from MessageBroker.local.whats_there import require_files
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    require_files(Path(sys.argv[1]))
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_file_without_the_rights_to_it_is_told_at_once(mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "topic.sqlite"
        path.touch(mode)
        told = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "may not read and write it: change its owner or mode" in told.stdout


def test_a_log_that_was_just_made_anew_is_not_taken_for_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite removes it with its last connection: so it was not there, and then it was."""
    path = tmp_path / "topic.sqlite"
    path.touch()
    answers, really = iter([False, False]), os.access
    monkeypatch.setattr(os, "access", lambda *of, **how: next(answers, True) and really(*of, **how))
    require_files(path)


RIGHTS_TAKEN = """
import os, sys
from pathlib import Path
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local_handler import LocalHandler
if os.geteuid() == 0:
    os.chown(sys.argv[1], 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
folder = Path(sys.argv[1])
with LocalHandler(folder) as broker:
    broker.create_topic("topic")
    stream = broker._open_stream("topic", "topic-sub")
    for mode in (0o000, 0o400, 0o500):
        folder.chmod(mode)
        for use in (lambda: stream.renew([]), lambda: broker.ping(1)):
            try:
                use()
            except BrokerUnavailableError as error:
                print(error)
    folder.chmod(0o700)
    stream.renew([])
    stream.close([])
    print("goes on")
"""


def test_rights_that_were_taken_while_it_runs_are_told_and_waited_for() -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, "-c", RIGHTS_TAKEN, folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    *waits, last = told.stdout.splitlines() or [""]
    assert last == "goes on", told.stderr
    assert len(waits) >= 4
    assert all(f"{folder} belongs to the user" in each for each in waits), waits


def test_a_disk_that_was_mounted_read_only_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No disk can be mounted so in a test; the system's answers are those of one."""
    path = tmp_path / "topic.sqlite"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(BrokerUnavailableError, match="mounted read-only"):
        require_files(path)

"""Files of the embedded broker that are removed, replaced or cut while programs use it.

Each row of the table in `docs/durability.md`. What was confirmed before and cannot be there any
more is told; nothing is confirmed afterwards; and whoever starts again goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from MessageBroker import (
    BrokerReplacedError,
    BrokerUnavailableError,
    ConfigurationError,
    Message,
)
from MessageBroker.conformance.stories import bodies, receive, wait_until
from MessageBroker.local.database import LocalDatabase
from MessageBroker.local_handler import LocalHandler
from tests.durability.taken_away import TAKEN
from tests.local.conftest import Connect
from tests.pipeline.runner import ROOT

# Several make SQLite write its log into the database file: a copy from before is an older one.
LARGE = b"x" * (6 << 20)

PARTS = {"database": "", "log": "-wal", "index of the log": "-shm"}


def file_of(folder: Path, topic: str, suffix: str = "") -> Path:
    (path,) = folder.glob(f"{topic}.????????????.sqlite{suffix}")
    return path


def publish(broker: LocalHandler, *datas: bytes) -> None:
    for data in datas:
        broker.publish("topic", data).result(30)


def datas(messages: Sequence[Message]) -> list[bytes]:
    return [each.data for each in messages]


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_confirmed_into_what_was_taken_away(
    connect: Connect, folder: Path, part: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = connect()
    broker.create_topic("topic")
    subscription = connect().subscribe("topic")
    publish(broker, b"before")
    path = file_of(folder, "topic", PARTS[part])
    older = path.read_bytes()
    publish(broker, *[LARGE] * 8)
    held = receive(subscription, 1)

    TAKEN[how](path, older)

    with pytest.raises(BrokerReplacedError, match=f"{re.escape(str(path))} was "):
        publish(broker, b"after")
    with pytest.raises(BrokerReplacedError, match="nothing more is confirmed"):
        for _ in range(10):
            subscription.receive(1, 1.0)
    subscription.ack(held)  # the next receive tells, as it has
    assert subscription.late_acks == 1
    subscription.close()
    broker.close()
    assert [each.levelname for each in caplog.records if each.levelno > 30] == []


def test_an_older_log_of_the_same_size_is_noticed(connect: Connect, folder: Path) -> None:
    """SQLite begins its log anew in the same file, which keeps its size."""
    broker = connect()
    broker.create_topic("topic")
    publish(broker, *[LARGE] * 3)
    path = file_of(folder, "topic", "-wal")
    publish(broker, b"first of a log")
    older = path.read_bytes()
    publish(broker, b"second")
    assert path.stat().st_size == len(older)

    path.write_bytes(older)

    with pytest.raises(BrokerReplacedError, match="-wal was overwritten"):
        publish(broker, b"after")


# A process of its own, whose end is that of all that it has open.
TAKING = """
import sys
from pathlib import Path
from MessageBroker.errors import BrokerReplacedError
from MessageBroker.local.database import LocalDatabase
from MessageBroker.local_handler import LocalHandler
from tests.durability.taken_away import TAKEN

folder, name, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with LocalHandler(folder) as broker:
    broker.create_topic("first")
    [catalogue] = folder.glob("catalogue.sqlite")
    older = catalogue.read_bytes()
    broker.create_topic("topic")
    broker.publish("topic", b"before").result(30)
    [path] = folder.glob(name)
    TAKEN[how](path, older if path == catalogue else path.read_bytes())
    try:
        broker.publish("topic", b"after").result(30)
        print("confirmed")
    except BrokerReplacedError as error:
        print(error)
"""


def take_in_a_process(folder: Path, name: str, how: str) -> str:
    command = [sys.executable, "-c", TAKING, str(folder), name, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("part", PARTS)
def test_the_next_start_goes_on_with_what_is_there(folder: Path, part: str, how: str) -> None:
    said = take_in_a_process(folder, f"topic.*.sqlite{PARTS[part]}", how)
    assert "nothing more is confirmed" in said or how == "overwritten by an older copy"
    with LocalHandler(folder) as broker:
        broker.create_topic("topic")
        publish(broker, b"later")
        subscription = broker.subscribe("topic")
        wait_until(lambda: b"later" in datas(subscription.receive(100, 0.2)), "what comes later")


@pytest.mark.parametrize("how", TAKEN)
def test_a_catalogue_that_was_taken_away_costs_no_message(
    folder: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The topic has files of its own."""
    assert take_in_a_process(folder, "catalogue.sqlite", how) == "confirmed\n"
    with LocalHandler(folder) as broker:
        assert broker.create_topic("topic") is False
        assert bodies(receive(broker.subscribe("topic"), 2)) == ["before", "after"]
    assert ("taken in again" in caplog.text) == (how in ("deleted", "moved", "truncated"))


@pytest.mark.parametrize("how", ["deleted", "replaced by an older copy", "truncated", "moved"])
def test_no_topic_is_made_in_a_catalogue_that_was_taken_away(
    connect: Connect, folder: Path, how: str
) -> None:
    broker = connect()
    broker.create_topic("topic")
    TAKEN[how](folder / "catalogue.sqlite", b"")
    for call in (lambda: broker.ping(5), lambda: broker.create_topic("another")):
        with pytest.raises(BrokerReplacedError, match=r"catalogue\.sqlite was "):
            call()


@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, how) for name in ("*.lock", "*.turn") for how in TAKEN), ("*.bells", "")],
)
def test_locks_and_bells_that_were_taken_away_cost_nothing(
    connect: Connect, folder: Path, name: str, how: str
) -> None:
    broker, consumer = connect(), connect()
    broker.create_topic("topic")
    subscription = consumer.subscribe("topic")
    for path in folder.glob(name):
        TAKEN[how](path, b"") if how else shutil.rmtree(path)
    publish(broker, b"one")
    publish(connect(), b"two")
    assert bodies(receive(subscription, 2)) == ["one", "two"]


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("take", [remove, move])
def test_nothing_is_confirmed_into_a_folder_that_is_gone(
    connect: Connect, folder: Path, take: Callable[[Path], None]
) -> None:
    broker = connect()
    broker.create_topic("topic")
    publish(broker, b"before")
    subscription = broker.subscribe("topic", "late")
    take(folder)
    for call in (
        lambda: publish(broker, b"after"),
        lambda: subscription.receive(1, 1.0),
        lambda: broker.create_topic("another"),
        lambda: broker.ping(5),
    ):
        with pytest.raises(BrokerReplacedError, match="was removed"):
            call()
    if take is move:
        folder.with_name("elsewhere").rename(folder)
        publish(broker, b"moved back")
        received = receive(connect().subscribe("topic"), 2)
        assert bodies(received) == ["before", "moved back"]


def test_files_that_grow_while_somebody_looks_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = LocalDatabase(tmp_path / "file.sqlite", "CREATE TABLE t (n INTEGER);")
    writing = LocalDatabase(tmp_path / "file.sqlite")
    stat = os.stat

    def grow_meanwhile(path: str) -> os.stat_result:
        status = stat(path)
        if path.endswith("-wal"):
            monkeypatch.setattr(os, "stat", stat)
            with writing.writing() as db:
                db.execute("INSERT INTO t VALUES (1)")
        return status

    monkeypatch.setattr(os, "stat", grow_meanwhile)
    with looking.reading():
        assert looking.gone is None
    assert os.stat is stat
    looking.close()
    writing.close()


def test_files_that_are_read_only_are_waited_out(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No mount can be made read only while a file on it is open; SQLite itself refuses here."""
    broker = connect()
    broker.create_topic("topic")
    subscription = connect().subscribe("topic")
    publish(broker, b"before")
    held = receive(subscription, 1)
    is_read_only = threading.Event()
    writing = LocalDatabase.writing

    @contextlib.contextmanager
    def refused(
        database: LocalDatabase, patience: float | None = None, *, confirms: bool = True
    ) -> Iterator[sqlite3.Connection]:
        with writing(database, patience, confirms=confirms) as db:
            db.execute(f"PRAGMA query_only={is_read_only.is_set()}")
            try:
                yield db
            finally:
                db.execute("PRAGMA query_only=FALSE")

    monkeypatch.setattr(LocalDatabase, "writing", refused)
    is_read_only.set()
    future = broker.publish("topic", b"after")
    wait_until(lambda: "readonly database" in caplog.text, "word of what is waited for")
    with pytest.raises(BrokerUnavailableError, match="readonly database"):
        broker.create_topic("another")
    subscription.ack(held)
    assert subscription.receive(1, 0.2) == []
    assert not future.done()

    is_read_only.clear()

    future.result(30)
    assert bodies(receive(subscription, 1)) == ["after"]
    wait_until(lambda: broker.backlog("topic") == 1, "the ack from before")
    assert subscription.late_acks == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to somebody else")
def test_a_strangers_link_to_the_folder_is_not_followed(tmp_path: Path) -> None:
    for name, owner in (("own", 0), ("planted", 65534)):
        (tmp_path / f"{name}-target").mkdir()
        link = tmp_path / name
        link.symlink_to(tmp_path / f"{name}-target")
        os.lchown(link, owner, owner)

    LocalHandler(tmp_path / "own").close()
    for below in ("", "below"):
        with pytest.raises(ConfigurationError, match="somebody else's"):
            LocalHandler(tmp_path / "planted" / below)

    assert list((tmp_path / "planted-target").iterdir()) == []
    assert (tmp_path / "own-target" / "catalogue.sqlite").exists()

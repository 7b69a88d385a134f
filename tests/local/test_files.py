"""Files of the embedded broker that are deleted, removed by hand, or closed under somebody."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from MessageBroker.conformance.stories import bodies, receive
from MessageBroker.core.outbox import MIN_BACKOFF_SECONDS
from MessageBroker.errors import (
    BrokerReplacedError,
    ClosedError,
    ConfigurationError,
    TopicNotFoundError,
)
from MessageBroker.local.database import LocalDatabase
from MessageBroker.local.files_in_use import Change, FilesInUse
from MessageBroker.local.log import NewMessage
from MessageBroker.local.store import TopicStore
from tests.local.conftest import Connect


def the_file_of(folder: Path, topic: str) -> Path:
    (path,) = folder.glob(f"{topic}.????????????.sqlite")
    return path


def test_a_file_that_is_not_there_is_made_by_nobody_who_opens_it(tmp_path: Path) -> None:
    with pytest.raises(BrokerReplacedError, match="was removed"):
        TopicStore(tmp_path / "topic.sqlite", "topic")

    assert list(tmp_path.iterdir()) == []


def test_a_race_with_a_deletion_is_lost_with_the_right_error(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, other = connect(), connect()
    broker.create_topic("topic")
    opening = TopicStore.__init__

    def open_too_late(store: TopicStore, path: Path, topic: str, *, synced: bool) -> None:
        monkeypatch.setattr(TopicStore, "__init__", opening)
        other.delete_topic("topic")
        opening(store, path, topic, synced=synced)

    monkeypatch.setattr(TopicStore, "__init__", open_too_late)
    with pytest.raises(TopicNotFoundError):
        broker.publish("topic", b"body").result(30)
    assert list(folder.glob("topic.*")) == []


def test_a_race_with_a_deletion_and_a_making_reaches_the_new_topic(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, other = connect(), connect()
    broker.create_topic("topic")
    opening = TopicStore.__init__

    def open_too_late(store: TopicStore, path: Path, topic: str, *, synced: bool) -> None:
        monkeypatch.setattr(TopicStore, "__init__", opening)
        other.delete_topic("topic")
        other.create_topic("topic")
        opening(store, path, topic, synced=synced)

    monkeypatch.setattr(TopicStore, "__init__", open_too_late)
    broker.publish("topic", b"body").result(30)

    assert bodies(receive(other.subscribe("topic"), 1)) == ["body"]


def test_a_topic_whose_file_was_removed_is_made_anew(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    the_file_of(folder, "topic").unlink()

    assert connect().create_topic("topic") is True

    broker.publish("topic", b"body").result(30)
    assert bodies(receive(broker.subscribe("topic"), 1)) == ["body"]


def test_names_that_begin_alike_do_not_take_each_others_files(connect: Connect) -> None:
    broker = connect()
    long = "t" * 210  # its dead-letter topic has the same first 200 characters
    names = ["topic", "topic.0123456789ab", long]
    for name in names:
        broker.create_topic(name)
        broker.publish(name, b"kept").result(30)

    for name in ("topic", long):
        assert broker.create_topic(name + "x") is True
        assert broker.delete_topic(name + "x") is True
    broker.delete_topic("topic")
    broker.create_topic("topic")

    for name in names[1:]:
        assert bodies(receive(connect().subscribe(name), 1)) == ["kept"]


def test_a_topic_may_be_deleted_while_it_is_published_to(connect: Connect) -> None:
    broker = connect()
    broker.create_topic("topic")
    futures = []
    deleting = threading.Thread(target=connect().delete_topic, args=("topic",))
    with contextlib.suppress(TopicNotFoundError):
        for number in range(20_000):
            futures.append(broker.publish("topic", b"body"))
            if number == 500:
                deleting.start()
    deleting.join()

    outcomes = {type(future.exception(30)) for future in futures}

    assert outcomes <= {type(None), TopicNotFoundError}


def test_a_file_that_looks_replaced_while_its_topic_is_deleted_is_a_deleted_topics(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at its files they go one by one, and somebody opens what is left."""
    broker, other = connect(), connect()
    broker.create_topic("topic")
    broker.publish("topic", b"before").result(30)
    path = the_file_of(folder, "topic")
    append, look = TopicStore.append, FilesInUse.change

    def look_once(files: FilesInUse) -> Change | None:
        monkeypatch.setattr(FilesInUse, "change", look)
        return Change(path.with_name(path.name + "-wal"), "was replaced by another one")

    def append_too_late(store: TopicStore, messages: Sequence[NewMessage]) -> None:
        monkeypatch.setattr(TopicStore, "append", append)
        other.delete_topic("topic")
        monkeypatch.setattr(FilesInUse, "change", look_once)
        append(store, messages)

    monkeypatch.setattr(TopicStore, "append", append_too_late)
    with pytest.raises(TopicNotFoundError):
        broker.publish("topic", b"after").result(30)


def test_while_a_topic_is_removed_nobody_can_open_it_as_one_that_is_not_deleted(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = connect()
    broker.create_topic("topic")
    broker.publish("topic", b"body").result(30)
    path = the_file_of(folder, "topic")
    holder = TopicStore(path, "topic")  # keeps SQLite from emptying the log
    unlink, looks = Path.unlink, []

    def look_and_unlink(file: Path, *, missing_ok: bool = False) -> None:
        unlink(file, missing_ok=missing_ok)
        try:
            with contextlib.closing(TopicStore(path, "topic")) as store:
                looks.append(store.is_deleted())
        except BrokerReplacedError:
            looks.append(True)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", look_and_unlink)
        broker.delete_topic("topic")
    holder.close()

    assert len(looks) >= 3, "the file, its log and its index"
    assert all(looks)


def test_a_broker_that_was_closed_meanwhile_is_closed_and_not_damaged(connect: Connect) -> None:
    broker = connect()
    broker.create_topic("topic")
    broker._catalogue.close()  # as `close` in another thread does it after the check

    for call in (broker.list_topics, lambda: broker.ping(1), lambda: broker.backlog("topic")):
        with pytest.raises(ClosedError):
            call()


def test_a_connection_that_is_closed_while_another_is_opened_takes_no_log_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a ping's, while the publisher begins: SQLite removes the log with the last connection."""
    first = LocalDatabase(tmp_path / "file.sqlite", "CREATE TABLE t (n INTEGER);")
    with first.writing() as db:
        db.execute("INSERT INTO t VALUES (1)")
    connect = sqlite3.connect

    def connect_late(*arguments: Any, **named: Any) -> sqlite3.Connection:
        first.close()
        return connect(*arguments, **named)

    monkeypatch.setattr(sqlite3, "connect", connect_late)
    with contextlib.closing(LocalDatabase(tmp_path / "file.sqlite")) as second:
        with second.writing() as db:
            db.execute("INSERT INTO t VALUES (2)")
        assert second.value("SELECT count(*) FROM t") == 2


def test_an_interrupt_as_soon_as_a_transaction_has_begun_ends_it(tmp_path: Path) -> None:
    mine = LocalDatabase(tmp_path / "file.sqlite", "CREATE TABLE t (n INTEGER);")
    other = LocalDatabase(tmp_path / "file.sqlite")
    connection = mine._db

    class Interrupting:
        def execute(self, sql: str) -> sqlite3.Cursor:
            mine._db = connection
            connection.execute(sql)
            raise KeyboardInterrupt

    mine._db = Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt), mine.writing():
        pass

    with other.writing(patience=0.5) as db:
        db.execute("INSERT INTO t VALUES (1)")


def test_a_damaged_file_is_named(connect: Connect, folder: Path) -> None:
    broker = connect()
    broker.create_topic("topic")
    the_file_of(folder, "topic").write_bytes(b"no database" * 1000)
    for path in (*folder.glob("topic.*-wal"), *folder.glob("topic.*-shm")):
        path.unlink()

    with pytest.raises(ConfigurationError, match="is damaged"):
        broker.publish("topic", b"body").result(30)


def test_a_topic_is_synced_and_what_a_consumer_notes_is_not(connect: Connect) -> None:
    """A claim or an ack that a power loss takes brings a message again."""
    broker = connect()
    broker.create_topic("topic")
    with broker.subscribe("topic") as subscription:
        stream = subscription._stream
        stores = [stream._claims, stream._settles]  # type: ignore[attr-defined]
        assert [level_of(each._database) for each in stores] == ["NORMAL", "NORMAL"]
    assert level_of(broker._catalogue._database) == "FULL"
    with contextlib.closing(broker._catalogue.open("topic")) as store:
        assert level_of(store._database) == "FULL"


def test_a_message_comes_before_it_is_on_the_disk_and_is_confirmed_when_it_is(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = connect()
    broker.create_topic("topic")
    written = threading.Event()
    sync = FilesInUse.sync_log

    def slow_disk(files: FilesInUse) -> None:
        assert written.wait(30)
        sync(files)

    monkeypatch.setattr(FilesInUse, "sync_log", slow_disk)
    with broker.subscribe("topic") as subscription:
        future = broker.publish("topic", b"body")
        messages = receive(subscription, 1)
        subscription.ack(messages)
        assert bodies(messages) == ["body"]
        assert not future.done()
        written.set()
        assert future.result(30) == messages[0].id


def test_after_a_sync_that_failed_nothing_is_confirmed_before_the_log_is_begun_anew(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of it once; what was not written would take all with it that follows."""
    broker = connect()
    broker.create_topic("topic")
    broker.publish("topic", b"1").result(30)
    sync, failures = FilesInUse.sync_log, iter(["it"])

    def fail_once(files: FilesInUse) -> None:
        for _ in failures:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(files)

    monkeypatch.setattr(FilesInUse, "sync_log", fail_once)
    reader = sqlite3.connect(the_file_of(folder, "topic"), isolation_level=None)
    with contextlib.closing(reader):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM topic").fetchall()  # as long as this reads, the log stays
        future = broker.publish("topic", b"2")
        time.sleep(2 * MIN_BACKOFF_SECONDS)
        assert not future.done()
        before = the_log_of(folder, "topic")
        reader.execute("COMMIT")
        future.result(30)
    assert the_log_of(folder, "topic") != before
    with broker.subscribe("topic") as subscription:  # more than once, perhaps
        assert {"1", "2"} == {body for _ in range(2) for body in bodies(receive(subscription, 1))}


def the_log_of(folder: Path, topic: str) -> bytes:
    """The header of its log: another one where that was begun anew."""
    with the_file_of(folder, topic).with_suffix(".sqlite-wal").open("rb") as log:
        return log.read(32)


def level_of(database: LocalDatabase) -> str:
    return {1: "NORMAL", 2: "FULL"}[database.value("PRAGMA synchronous")]

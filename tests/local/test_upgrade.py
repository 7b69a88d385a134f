"""A topic that an older version has written: a row for each message."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path

import pytest

from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local import database
from MessageBroker.local.store import TopicStore

OLD_TABLE = """
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL, publish_ms INTEGER NOT NULL,
    key TEXT, attributes BLOB, data BLOB NOT NULL);
"""
MESSAGES = 700
HELD = 5


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A topic whose first messages are acknowledged and deleted, and the next five are free."""
    path = tmp_path / "topic.sqlite"
    with contextlib.closing(TopicStore.make(path, "topic")) as store:
        store.add_subscription("sub", from_start=True)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE batch")
        db.execute(OLD_TABLE)
        db.executemany(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    seq,
                    uuid.UUID(int=seq).bytes,
                    1_700_000_000_000 + seq // 10,
                    "key" if seq % 100 == 0 else None,
                    b'{"number":"%d"}' % seq if seq % 2 else None,
                    b"%d" % seq * (seq % 3),
                )
                for seq in range(11, 11 + MESSAGES)
            ),
        )
        db.execute("UPDATE topic SET next_seq = ?", (11 + MESSAGES,))
        db.execute("UPDATE subscription SET next_seq = ?", (11 + HELD,))
        db.execute("INSERT INTO claim VALUES ('sub', 11, ?, NULL, NULL)", (10 + HELD,))
    return path


def test_messages_of_an_older_version_come_as_they_were(old: Path) -> None:
    with contextlib.closing(TopicStore(old, "topic")) as store:
        assert store.backlog("sub") == MESSAGES
        bell = store.doorbell("me")
        store.join("sub", "me")
        claimed = store.claim("sub", "me", 10_000, 1 << 30)
        assert claimed is not None
        found = store.read(claimed)
        bell.close()
    assert [each.delivery.handle for each in found] == list(range(11, 11 + MESSAGES))
    for each in found:
        assert each.id == str(uuid.UUID(int=each.delivery.handle))
        assert (
            each.publish_time.timestamp() * 1000 == 1_700_000_000_000 + each.delivery.handle // 10
        )
        assert each.key == ("key" if each.delivery.handle % 100 == 0 else None)
        assert each.attributes == (
            {"number": str(each.delivery.handle)} if each.delivery.handle % 2 else {}
        )
        assert each.data == b"%d" % each.delivery.handle * (each.delivery.handle % 3)


def test_it_is_upgraded_once(old: Path) -> None:
    for _ in range(2):
        TopicStore(old, "topic").close()
    with contextlib.closing(sqlite3.connect(old)) as db:
        (messages,) = db.execute("SELECT sum(last - first + 1) FROM batch").fetchone()
    assert messages == MESSAGES


def descriptors_of(path: Path) -> int:
    """How many files this process has open under this name."""
    wanted, found = path.stat().st_ino, 0
    for each in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing
            found += os.fstat(int(each.name)).st_ino == wanted
    return found


def test_a_file_that_cannot_be_upgraded_now_is_closed_and_upgraded_later(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")  # a backup, a debugger
        with pytest.raises(BrokerUnavailableError):
            TopicStore(old, "topic")
    assert descriptors_of(old) == 0

    with contextlib.closing(TopicStore(old, "topic")) as store:
        assert store.backlog("sub") == MESSAGES

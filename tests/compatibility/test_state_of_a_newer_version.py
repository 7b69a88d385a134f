"""State that a newer version has written is refused with a text that says so, and not changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, open_database
from DB.__main__ import main as db_main
from DB.text.database import TextDatabase
from DB.text.part_list import list_path
from DurableText import codec
from MessageBroker import ConfigurationError
from MessageBroker.local.database import FORMAT_MARK
from MessageBroker.local_handler import LocalHandler
from Queue import QueueConfigurationError, Record, open_queue
from Queue.__main__ import main as queue_main


def test_a_text_db_with_a_list_of_a_newer_format(tmp_path: Path) -> None:
    path = tmp_path / "db.txt"
    with TextDatabase(path) as db:
        db.insert([{"id": "1", "label": "7"}])
        db.rotate()
    listed = list_path(path)
    listed.write_bytes(codec.frame(b'{"format":2') + listed.read_bytes())
    before = content(tmp_path)
    with pytest.raises(DatabaseConfigurationError, match="a newer version has written the DB"):
        open_database(path)
    assert db_main(["verify", "--db", str(path)]) == 2
    assert content(tmp_path) == before


def test_an_sqlite_db_with_newer_tables(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/db.sqlite"
    with open_database(where) as db:
        db.insert([{"id": "1", "label": "7"}])
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseConfigurationError, match="use the program that made them"):
        open_database(where)


@pytest.mark.parametrize(
    "open_it",
    [
        lambda path: open_queue(path).take(1, timeout=0.0),
        lambda path: open_queue(path, read_only=True).status(),
    ],
)
def test_a_queue_with_a_cursor_of_a_newer_format(
    tmp_path: Path, open_it: Callable[[Path], object]
) -> None:
    path = tmp_path / "log.txt"
    with open_queue(path) as queue:
        queue.put([Record("1", b'{"id":"1"}')])
        queue.commit(queue.take(1))
    slot = codec.frame(b'{"format":2,"generation":99,"next_seq":2,"segment":1,"offset":0')
    cursor = tmp_path / "log.cursor"
    cursor.write_bytes(slot[:-1].ljust(511) + b"\n" + cursor.read_bytes()[512:])
    before = cursor.read_bytes()
    with pytest.raises(QueueConfigurationError, match="a newer version has written the queue"):
        open_it(path)
    assert queue_main(["verify", "--queue", str(path)]) == 2
    assert cursor.read_bytes() == before


def test_an_embedded_broker_of_a_newer_format(tmp_path: Path) -> None:
    with LocalHandler(tmp_path) as broker:
        broker.create_topic("images")
        broker.publish("images", b"1").result()
    (topic,) = tmp_path.glob("images.*.sqlite")
    for path in (tmp_path / "catalogue.sqlite", topic):
        with closing(sqlite3.connect(path)) as file:
            file.execute(f"PRAGMA application_id = {FORMAT_MARK + 2}")
        with (
            pytest.raises(ConfigurationError, match="a newer version has written it"),
            LocalHandler(tmp_path) as broker,
        ):
            broker.publish("images", b"2").result(10)
        with closing(sqlite3.connect(path)) as file:
            file.execute(f"PRAGMA application_id = {FORMAT_MARK + 1}")
    with LocalHandler(tmp_path) as broker:
        broker.publish("images", b"3").result(10)


def content(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix == ".txt"}

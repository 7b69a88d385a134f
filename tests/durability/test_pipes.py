"""A pipe in the place of a file is told at once: opening it would wait for its other end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from DB import DatabaseError, open_database
from MessageBroker import BrokerError, MessageBrokerFactory
from Pipeline.serving.in_flight import InFlight
from Queue import QueueError, encode_record, open_queue


def use_queue(path: Path) -> None:
    with open_queue(path) as queue:
        queue.put([encode_record({"id": "b"})])
        batch = queue.take(1, 0)
        queue.commit(batch)


def look_at_queue(path: Path) -> None:
    with open_queue(path, read_only=True) as queue:
        queue.status()
        queue.verify()


def use_db(path: Path) -> None:
    with open_database(path) as db:
        db.insert([{"id": "b", "label": "7"}])


def look_at_db(path: Path) -> None:
    with open_database(path, read_only=True) as db:
        db.verify()


def journal(path: Path) -> None:
    InFlight(path).close()


def use_broker(_path: Path) -> None:
    with MessageBrokerFactory.get_broker("local") as broker:
        broker.create_topic("topic")
        broker.publish("topic", b"x")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("log.producer.lock", use_queue),
        ("log.consumer.lock", use_queue),
        ("log.cursor", use_queue),
        ("log.cursor", look_at_queue),
        ("log.producer.lock", look_at_queue),
        ("db.lock", use_db),
        ("db.parts", use_db),
        ("db.conflicts.txt", look_at_db),
        ("log.in_flight.0.json", journal),
        ("catalogue.sqlite", use_broker),
        ("catalogue.turn", use_broker),
        ("catalogue.lock", use_broker),
        ("topic.*.sqlite", use_broker),
        ("topic.*.turn", use_broker),
        ("topic.*.lock", use_broker),
    ],
)
def test_a_pipe_is_told_and_not_waited_for(
    name: str, use: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_BROKER_PATH", str(tmp_path))
    state = tmp_path / ("db.txt" if name.startswith("db") else "log.txt")
    if state.name == "db.txt":
        use_db(state)
    else:
        use_queue(state)
    if use is use_broker:
        use_broker(state)
    place = next(tmp_path.glob(name), tmp_path / name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    told: list[Exception | None] = []

    def try_it() -> None:
        try:
            use(state)
        except (BrokerError, DatabaseError, QueueError, OSError) as error:
            told.append(error)
        else:
            told.append(None)

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(20)
    if thread.is_alive():  # let it end
        os.close(os.open(place, os.O_RDWR))
    assert told, "it waits for the other end of the pipe"
    if use is use_broker:
        assert "is a pipe, " in str(told[0])

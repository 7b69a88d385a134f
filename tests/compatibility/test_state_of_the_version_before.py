"""What the version before the new layout wrote is read by this one: see README.md here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from DB.text.database import TextDatabase
from MessageBroker import BrokerInterface, Message, MessageBrokerFactory
from MessageBroker.dead_letters import Selection, read_letters, replay
from Modelling.data_preparation import bundled_test_images, encode_npy
from Modelling.predict_cnn import load_classifier
from tests.queue.of_dicts import FileQueue

ROOT = Path(__file__).resolve().parents[2]
OLD_STATE = Path(__file__).with_name("old_state")
# The records of the queue that are not committed, and the number that comes next.
WAITING_RECORDS = [f"waiting-{number}" for number in range(1, 8)]
NEXT_SEQ = 17
# Probabilities of the quantised model: other processors round otherwise.
ROUNDING = 0.02


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old state."""
    folder = tmp_path / "old_state"
    shutil.copytree(OLD_STATE, folder)
    with tarfile.open(folder / "broker.tar.gz") as archive:
        # "data" would take no named pipes. An attribute, because Python 3.11.2 has no filters.
        archive.extraction_filter = lambda member, _folder: member
        archive.extractall(folder)
    monkeypatch.setenv("LOCAL_BROKER_PATH", str(folder / "broker"))
    monkeypatch.setenv("MESSAGE_BROKER", "local")
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text().split()


def receive(broker: BrokerInterface, topic: str, count: int) -> list[Message]:
    found: list[Message] = []
    with broker.subscribe(topic) as subscription:
        while len(found) < count:
            messages = subscription.receive(count, 20.0)
            assert messages, f"only {len(found)} of {count} messages came"
            found += messages
            subscription.ack(messages)
        assert subscription.receive(1, 0.5) == []
    return found


# ---------------------------------------------------------------------- the queue


def test_the_queue_goes_on_where_its_cursor_stood(old: Path) -> None:
    quarantine = (old / "queue" / "log.quarantine.txt").read_bytes()
    with FileQueue(old / "queue" / "log.txt") as queue:
        queue.put([{"id": "new"}])  # behind the torn line
        last_line = (old / "queue" / "log.txt").read_bytes().splitlines()[-1]
        records: list[dict[str, Any]] = []
        corrupt: list[bytes] = []
        while not records or records[-1]["id"] != "new":
            batch = queue.take(100, timeout=5.0)
            records += batch.records
            corrupt += [each.raw for each in batch.corrupt]
            queue.commit(batch)

    assert [record["id"] for record in records] == [*WAITING_RECORDS, "new"]
    assert json.loads(last_line)["seq"] == NEXT_SEQ
    assert corrupt == [], "nobody was told of a line that was torn off: it is no damage"
    assert not list((old / "queue").glob("log.[0-9]*.txt")), "what is committed is removed"
    kept = (old / "queue" / "log.quarantine.txt").read_bytes()
    assert kept.startswith(quarantine)
    assert b"torn" in kept.removeprefix(quarantine)


# ---------------------------------------------------------------------- the DB


def test_the_db_knows_its_ids_and_its_conflict(old: Path) -> None:
    stored = lines_of(old / "stored.txt")
    conflicts = (old / "db" / "db.conflicts.txt").read_bytes()
    with TextDatabase(old / "db" / "db.txt") as db:
        rows = list(db)
        assert [row["id"] for row in rows] == stored
        again = [{"id": row["id"], "label": row["label"]} for row in rows]
        conflict = {"id": stored[0], "label": "another"}

        outcome = db.insert([*again, conflict, {"id": "new", "label": "7"}])

        assert (outcome.inserted, outcome.duplicates, outcome.conflicts) == (1, len(stored), 1)
        assert [row["id"] for row in db] == [*stored, "new"]
    assert (old / "db" / "db.conflicts.txt").read_bytes() == conflicts, "it was kept already"


# ---------------------------------------------------------------------- the embedded broker


def test_what_was_not_acknowledged_is_delivered_and_nothing_else(old: Path) -> None:
    acked = json.loads((old / "acked.json").read_text())
    waiting = lines_of(old / "waiting.txt")
    with MessageBrokerFactory.get_broker() as broker:
        assert broker.backlog("new_image_topic", "new_image_topic-sub") == len(waiting) - len(acked)
        new = broker.publish("new_image_topic", b"new").result()

        messages = receive(broker, "new_image_topic", len(waiting) - len(acked) + 1)

    assert {message.attributes.get("ce_id") for message in messages} == {
        *(waiting[1], *waiting[3:]),
        None,
    }
    assert not {message.id for message in messages} & {*acked}
    assert messages[-1].id == new


def test_dead_letters_are_listed_and_go_home(old: Path) -> None:
    with MessageBrokerFactory.get_broker() as broker:
        letters = read_letters(broker, "new_image_topic", 0.0).letters
        assert {each.attributes["ce_id"] for each in letters} == {"no-image-0", "no-image-1"}
        assert all(each.attributes["dead_letter_reason"] for each in letters)

        outcome = replay(broker, "new_image_topic", Selection({"/camera#no-image-1"}), 0.0)

        assert (outcome.selected, outcome.kept) == (1, 1)


# ---------------------------------------------------------------------- the checkpoint


def test_the_checkpoint_gives_the_results_that_it_gave(old: Path) -> None:
    classifier = load_classifier(old / "checkpoint" / "tiny.keras")
    with TextDatabase(old / "db" / "db.txt") as db:
        rows = list(db)
    images = [encode_npy(image) for image in bundled_test_images()[0][: len(rows)]]

    prepared, errors = classifier.prepare_batch(images)
    predictions = classifier.predict(prepared)

    assert not any(errors)
    assert list(predictions.labels) == [row["label"] for row in rows]
    assert list(predictions.confidences) == pytest.approx(
        [row["confidence"] for row in rows], abs=ROUNDING
    )


# ---------------------------------------------------------------------- all of it


def run(script: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_scripts_take_over(old: Path) -> None:
    stored, waiting = lines_of(old / "stored.txt"), lines_of(old / "waiting.txt")
    queue, db = old / "queue" / "log.txt", old / "db" / "db.txt"
    idle = ("--exit-when-idle", 1)
    checkpoint = old / "checkpoint" / "tiny.keras"
    run("model_server_sub", "--checkpoint", checkpoint, "--queue", queue, *idle)
    run("model_server_pub", "--queue", queue, *idle)
    run("app_2", "--db", db, *idle)

    with TextDatabase(db) as database:
        ids = [row["id"] for row in database]
    assert sorted(ids) == sorted([*stored, *WAITING_RECORDS, waiting[1], *waiting[3:]])

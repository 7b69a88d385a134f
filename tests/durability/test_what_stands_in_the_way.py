"""What stands in a file's place for good is told, not waited for; of rights it is said whose."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, open_database
from DB.results import Result
from MessageBroker import ConfigurationError
from MessageBroker.local_handler import LocalHandler
from Queue import QueueConfigurationError, open_queue
from tests.pipeline.runner import ROOT

A: list[Result] = [{"id": "a", "label": "1", "model": "m"}]
ANOTHER_A: list[Result] = [{"id": "a", "label": "2", "model": "m"}]


def a_circle(path: Path) -> None:
    path.symlink_to(path.name)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (Path.mkdir, "is a folder, not a file: move it away"),
    "a circle": (a_circle, "is a link in a circle"),
}


def take(folder: Path) -> None:
    with open_queue(folder / "log.txt") as queue:
        queue.take(1, timeout=0)


def insert(folder: Path) -> None:
    with open_database(folder / "db.txt") as db:
        db.insert(A)
        db.insert(ANOTHER_A)
        db.insert_shadow(A)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["log.cursor", "log.producer.lock", "log.consumer.lock", "log.1.txt"]
)
def test_in_the_place_of_a_queues_side_file(tmp_path: Path, name: str, kind: str) -> None:
    make, said = KINDS[kind]
    make(tmp_path / name)
    with pytest.raises(QueueConfigurationError, match=rf"{name} {said}"):
        take(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["db.lock", "db.parts.txt", "db.conflicts.txt", "db.shadow.txt"])
def test_in_the_place_of_a_dbs_side_file(tmp_path: Path, name: str, kind: str) -> None:
    make, said = KINDS[kind]
    make(tmp_path / name)
    with pytest.raises(DatabaseConfigurationError, match=rf"{name} {said}"):
        insert(tmp_path)


@pytest.mark.parametrize("name", ["db.index", "db.index-wal", "db.index-journal"])
def test_in_the_place_of_the_index_it_is_told_as_well_and_a_link_goes(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DatabaseConfigurationError, match=rf"{name} is a folder"):
        insert(tmp_path)
    (tmp_path / name).rmdir()
    (tmp_path / name).symlink_to("nowhere")
    insert(tmp_path)


def test_a_folder_in_the_place_of_the_quarantine_is_no_disk_to_wait_for(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b'{"seq":1,"crc":"00000000"}\n')
    (tmp_path / "log.quarantine.txt").mkdir()
    with open_queue(tmp_path / "log.txt") as queue:
        batch = queue.take(1, timeout=0)
        with pytest.raises(QueueConfigurationError, match=r"quarantine.txt is a folder"):
            queue.commit(batch)
        (tmp_path / "log.quarantine.txt").rmdir()
        queue.commit(batch)


@pytest.mark.parametrize("length", [200, 225, 240, 250, 255])
def test_a_name_that_would_be_too_long_for_a_side_file_is_told_at_the_start(
    tmp_path: Path, length: int
) -> None:
    path = tmp_path / ("n" * (length - 4) + ".txt")
    attempts: list[tuple[Callable[[], None], type[Exception]]] = [
        (lambda: open_queue(path).close(), QueueConfigurationError),
        (lambda: insert_at(path.with_stem("d" * (length - 4))), DatabaseConfigurationError),
    ]
    for attempt, refusal in attempts:
        if length == 200:
            attempt()
        else:
            with pytest.raises(refusal, match="longer name than can be had"):
                attempt()


def test_a_path_that_is_too_long_for_sqlite_is_told_as_that(tmp_path: Path) -> None:
    """It says of it that it cannot open the file."""
    deep = tmp_path.joinpath(*["d" * 60] * 8)
    for attempt, refusal in (
        (lambda: open_database(deep / "db.txt"), DatabaseConfigurationError),
        (lambda: open_database(f"sqlite:///{deep}/db"), DatabaseConfigurationError),
        (lambda: LocalHandler(deep / "broker"), ConfigurationError),
    ):
        with pytest.raises(refusal, match="longer name than can be had"):
            attempt()
    open_queue(deep / "log.txt").close()


def insert_at(path: Path) -> None:
    with open_database(path) as db:
        db.insert(A)
        db.insert(ANOTHER_A)
        db.rotate()


WHOSE = """
import os, sys
from pathlib import Path
from DB import DatabaseUnavailableError, open_database
from DB.text import database  # before its files can be read no more
from Queue import QueueUnavailableError, open_queue
from Queue.text import file_queue
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for attempt, place in ((open_queue, "log.txt"), (open_database, "db.txt")):
    try:
        attempt(Path(sys.argv[1]) / place)
    except (QueueUnavailableError, DatabaseUnavailableError) as error:
        print(error)
"""


@pytest.mark.parametrize("closed", ["the folder", "the files"])
def test_rights_that_are_lacking_are_told_with_the_owner(closed: str) -> None:
    """As after somebody has run it as root once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if closed == "the files":
            folder.chmod(0o777)
            (folder / "log.txt").touch(0o400)
            (folder / "db.txt").touch(0o400)
        else:
            folder.chmod(0o555)
        told = subprocess.run(
            [sys.executable, "-c", WHOSE, name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    for line, place in zip(told, ("log.txt", "db.txt"), strict=True):
        whose = folder / place if closed == "the files" else folder
        assert f"; {whose} belongs to the user {os.geteuid()}, and this process" in line

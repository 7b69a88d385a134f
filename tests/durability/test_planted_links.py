"""A link that a stranger has planted is not followed; one of one's own is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from DB import open_database
from DurableText import storage
from Pipeline.serving.confirmed_ids import ConfirmedIds
from Queue import open_queue

STRANGER = 12345


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def queue_at(path: Path) -> None:
    with open_queue(path):
        pass


def db_at(path: Path) -> None:
    open_database(path).close()


def sqlite_at(path: Path) -> None:
    open_database(f"sqlite:///{path}").close()


def ids_at(path: Path) -> None:
    ConfirmedIds(path).close()


def picture_at(path: Path) -> None:
    """As `python -m DB summary --plot` and `dead-letters save --output` write."""
    storage.make_durable_directory(storage.STORAGE, path.parent)
    storage.write_file(path, b"a picture")


OPEN: list[Callable[[Path], None]] = [queue_at, db_at, sqlite_at, ids_at, picture_at]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's link")


@needs_root
@pytest.mark.parametrize("opening", OPEN)
@pytest.mark.parametrize("planted", ["the link is a stranger's", "the folder is a stranger's"])
def test_a_strangers_link_is_not_followed(
    tmp_path: Path, victim: Path, opening: Callable[[Path], None], planted: str
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    link = folder / "state.txt"
    link.symlink_to(victim)
    os.lchown(link if "link is" in planted else folder, STRANGER, STRANGER)
    with pytest.raises(Exception, match="is somebody else's"):
        opening(link)
    assert victim.read_text() == "precious"


@needs_root
@pytest.mark.parametrize("name", ["log.producer.lock", "log.cursor", "log.quarantine.txt"])
def test_nor_is_one_in_place_of_a_side_file(tmp_path: Path, victim: Path, name: str) -> None:
    link = tmp_path / name
    link.symlink_to(victim)
    os.lchown(link, STRANGER, STRANGER)
    with pytest.raises(OSError, match="symbolic links"):
        storage.STORAGE.open(link, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    assert victim.read_text() == "precious"


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "Queue").symlink_to(disk)
    (disk / "log.txt").symlink_to("results.txt")
    queue_at(tmp_path / "Queue" / "log.txt")
    assert (disk / "results.txt").exists()


def test_state_is_for_the_user_and_the_group(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        for opening in OPEN:
            opening(tmp_path / opening.__name__ / "state.txt")
    finally:
        os.umask(previous)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o007 == 0, path

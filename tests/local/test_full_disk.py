"""A full disk under the embedded broker: an outage, which ends when there is room again."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from DurableText.storage import lacks_room
from MessageBroker.conformance.stories import (
    assert_nothing_comes,
    bodies,
    in_order,
    receive,
    receive_bodies,
)
from MessageBroker.errors import BrokerUnavailableError, ConfigurationError
from MessageBroker.local.catalogue import Catalogue
from MessageBroker.local_handler import LocalHandler
from tests.small_disk import fill, mounted

DISK_BYTES = 96 * 1024 * 1024  # all messages twice, and a log as large
PADDING = " " * 200_000  # so that what is published needs room


class SmallDisk:
    """A file system of its own, filled by one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        self._ballast = fill(self.folder)

    def make_room(self) -> None:
        self._ballast.unlink()


class FileSizeLimit:
    """This process cannot make any file larger than the largest of the broker is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        largest = max(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, self._limits[1]))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


Disk = SmallDisk | FileSizeLimit


@pytest.fixture(params=["a small disk", "a limit of file sizes"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a limit of file sizes":
        limit = FileSizeLimit(tmp_path)
        yield limit
        limit.make_room()
        return
    with mounted(tmp_path, DISK_BYTES) as folder:
        yield SmallDisk(folder)


def padded(first: int, end: int) -> list[str]:
    return [str(number) + PADDING for number in range(first, end)]


def test_a_full_disk_is_waited_out(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as opened:
        broker = opened.enter_context(LocalHandler(disk.folder / "broker"))
        other = opened.enter_context(LocalHandler(disk.folder / "broker"))
        broker.create_topic("topic")
        holder = broker.subscribe("topic")
        for body in padded(0, 10):
            broker.publish("topic", body.encode()).result(30)
        held = receive(holder, 10)

        disk.fill()
        futures = [broker.publish("topic", body.encode()) for body in padded(10, 60)]
        with pytest.raises(BrokerUnavailableError, match="still being tried"):
            broker.flush(1.0)
        assert "waiting for it" in caplog.text
        assert isinstance(disk, FileSizeLimit) or "make room" in caplog.text
        holder.ack(held[:5])
        disk.make_room()

        assert all(future.result(60) for future in futures)
        subscription = other.subscribe("topic")
        came = receive_bodies([subscription], padded(10, 60))
        assert in_order(came) == padded(10, 60)
        assert_nothing_comes(subscription)  # what is held stays with its holder
        assert bodies(held) == padded(0, 10)
        holder.ack(held[5:])
        holder.close()
        assert holder.late_acks == 0
        assert broker.backlog("topic") == 0


def test_a_disk_that_takes_no_more_files_is_a_full_one(tmp_path: Path) -> None:
    """SQLite says of it that it cannot open the file, which would be no disk to wait for."""
    with mounted(tmp_path / "disk", DISK_BYTES, files=20) as folder:
        LocalHandler(folder / "broker").close()
        many = folder / "many"
        many.mkdir()
        with contextlib.suppress(OSError):
            for number in range(20):
                (many / str(number)).touch()
        with pytest.raises(BrokerUnavailableError, match="no more files can be made") as told:
            LocalHandler(folder / "broker")
        assert lacks_room(told.value)
        (many / "0").unlink()
        (many / "1").unlink()
        LocalHandler(folder / "broker").close()


def test_a_disk_that_is_mounted_read_only_is_called_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", DISK_BYTES) as folder:
        LocalHandler(folder / "broker").close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(ConfigurationError, match="Read-only"):
            LocalHandler(folder / "broker")
        with pytest.raises(BrokerUnavailableError, match="mounted read-only"):
            Catalogue(folder / "broker")

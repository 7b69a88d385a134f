"""A disk in memory that forgets what was not synced, and processes on it that stop at any call.

`SimulatedDisk` keeps for each file what a reader sees now and what would be there after a power
loss. `SimulatedProcess` is the layer for system calls of one process on that disk: it counts its
calls and, at the one it is told, stops dead (`Crash`) or fails with an error.

The model of the kernel and the disk:

* A write changes what readers see and makes its 4096-byte pages dirty. `sync` takes the dirty
  pages and the size to the disk.
* A crash in the middle of a write leaves the first bytes of it, any number of them.
* A power loss keeps of what is dirty: nothing, all, a prefix of the writes, or random 512-byte
  sectors, with holes of NUL bytes where the file had not been that long.
* Names (create, rename, unlink) are kept only once the directory was synced; without that, a
  power loss keeps none, all, or the first few of the changes.
* A failed sync marks the pages clean: they are seen, and will never reach the disk unless they are
  written again. Some of their sectors may have reached it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from DurableText.storage import Storage

PAGE = 4096
SECTOR = 512
FIRST_FD = 1_000_000
"""Far above real descriptors, so that code closing one by mistake closes nothing real."""

POWER_LOSSES = ("none", "all", "prefix", "sectors")


class Crash(BaseException):
    """The process stops here. No `except Exception` of the code under test may catch it."""


@dataclass(eq=False)
class File:
    """One file: what readers see, what the disk has, and what lies between."""

    number: int
    seen: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    holder: object = None
    reserved: int = 0

    def write(self, data: bytes, offset: int) -> None:
        if not data:
            return
        if offset > len(self.seen):
            self.seen += bytes(offset - len(self.seen))
        self.seen[offset : offset + len(data)] = data
        self.dirty.update(range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1))
        self.writes.append((offset, bytes(data)))

    def sync(self) -> None:
        self._keep(self.dirty, PAGE, len(self.seen))
        del self.safe[len(self.seen) :]
        self._clean()

    def fail_sync(self, rng: random.Random) -> None:
        self._keep_some_sectors(rng)
        self._clean()

    def lose_power(self, how: str, rng: random.Random) -> None:
        if how == "all":
            self.sync()
        elif how == "sectors":
            self._keep_some_sectors(rng)
        elif how == "prefix" and self.writes:
            for offset, data in self.writes[: rng.randint(0, len(self.writes) - 1)]:
                self._put_safe(data, offset)
            offset, data = rng.choice(self.writes)
            if offset <= len(self.safe):
                self._put_safe(data[: rng.randint(0, len(data))], offset)
        self.seen = bytearray(self.safe)
        self._clean()

    def _clean(self) -> None:
        self.dirty.clear()
        self.writes.clear()

    def _put_safe(self, data: bytes, offset: int) -> None:
        if offset > len(self.safe):
            self.safe += bytes(offset - len(self.safe))
        self.safe[offset : offset + len(data)] = data

    def _keep(self, blocks: set[int], block: int, size: int) -> None:
        for number in blocks:
            self._put_safe(
                bytes(self.seen[number * block : min(size, (number + 1) * block)]), number * block
            )
        if len(self.safe) < size:
            self.safe += bytes(size - len(self.safe))

    def _keep_some_sectors(self, rng: random.Random) -> None:
        sectors = [
            number * (PAGE // SECTOR) + part
            for number in sorted(self.dirty)
            for part in range(PAGE // SECTOR)
            if number * PAGE + part * SECTOR < len(self.seen)
        ]
        kept = {sector for sector in sectors if rng.random() < 0.5}
        # The size is metadata: it may have reached the disk with few or none of the sectors.
        size = rng.choice([len(self.safe), len(self.seen), len(self.seen)])
        self._keep({s for s in kept if s * SECTOR < size}, SECTOR, max(size, len(self.safe)))


class SimulatedDisk:
    """The disk that all simulated processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[Path, File] = {}
        self._safe_names: dict[Path, File] = {}
        self._changes: list[tuple[str, Path, Path | None, File]] = []
        self._numbers = itertools.count(1)
        self.clock = 1
        self.full = False
        """Whether there is no block left: files do not grow, what is there can be overwritten."""

    def process(
        self, faults: Callable[[str, int], None] | None = None, seed: int = 0
    ) -> SimulatedProcess:
        """Starts a process; `faults` is asked before each call and may raise."""
        return SimulatedProcess(self, faults, random.Random(seed))

    def put(self, path: Path, data: bytes) -> None:
        """Places a file as it stands safely on the disk."""
        file = File(next(self._numbers), bytearray(data), bytearray(data))
        self.names[path] = self._safe_names[path] = file

    def content(self, path: Path) -> bytes:
        return bytes(self.names[path].seen)

    def sync_names(self) -> None:
        self._safe_names = dict(self.names)
        self._changes.clear()

    def change_name(self, kind: str, path: Path, other: Path | None, file: File) -> None:
        self._changes.append((kind, path, other, file))
        self._apply(self.names, kind, path, other, file)
        self.clock += 1

    @staticmethod
    def _apply(
        names: dict[Path, File], kind: str, path: Path, other: Path | None, file: File
    ) -> None:
        if kind == "unlink":
            names.pop(path, None)
            return
        if kind == "rename":
            names.pop(path, None)
            path = other or path
        names[path] = file

    def lose_power(self, how: str, seed: int) -> None:
        """Ends all processes and forgets what was not synced."""
        rng = random.Random(seed)
        changes = {
            "none": 0,
            "all": len(self._changes),
            "prefix": rng.randint(0, len(self._changes)),
            "sectors": rng.randint(0, len(self._changes)),
        }[how]
        files = set(self.names.values()) | set(self._safe_names.values())
        for file in sorted(files, key=lambda file: file.number):
            file.lose_power(how, rng)
            file.holder = None
        for change in self._changes[:changes]:
            self._apply(self._safe_names, *change)
        self.names = dict(self._safe_names)
        self._changes.clear()


class SimulatedProcess(Storage):
    """The layer for system calls of one process on a `SimulatedDisk`."""

    def __init__(
        self, disk: SimulatedDisk, faults: Callable[[str, int], None] | None, rng: random.Random
    ) -> None:
        self.disk = disk
        self.calls: list[str] = []
        self.dead = False
        self._faults = faults
        self._rng = rng
        self._open: dict[int, tuple[File, Path]] = {}
        self._fds = itertools.count(FIRST_FD)

    def kill(self) -> None:
        """Ends the process: its locks go, its unsynced writes stay visible."""
        self.dead = True
        for file, _ in self._open.values():
            self._unlock(file)
        self._open.clear()

    def _call(self, name: str) -> None:
        if self.dead:
            raise Crash
        self.calls.append(name)
        if self._faults is not None:
            try:
                self._faults(name, len(self.calls))
            except Crash:
                self.kill()
                raise

    def _unlock(self, file: File) -> None:
        if file.holder is self or (isinstance(file.holder, tuple) and file.holder[0] is self):
            file.holder = None

    def open(self, path: Path, flags: int) -> int:
        self._call("open")
        file = self.disk.names.get(path)
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            if self.disk.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file = File(next(self.disk._numbers))
            self.disk.change_name("create", path, None, file)
        fd = next(self._fds)
        self._open[fd] = (file, path)
        return fd

    def close(self, fd: int) -> None:
        if self.dead:
            return
        file, _ = self._open.pop(fd)
        if file.holder == (self, fd):
            file.holder = None

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._call("read")
        return bytes(self._open[fd][0].seen[offset : offset + size])

    def append(self, fd: int, data: bytes | memoryview) -> int:
        file = self._open[fd][0] if not self.dead else None
        return self._write(file, bytes(data), None)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        file = self._open[fd][0] if not self.dead else None
        return self._write(file, bytes(data), offset)

    def _write(self, file: File | None, data: bytes, offset: int | None) -> int:
        try:
            self._call("write")
        except (Crash, ShortWriteError) as fault:
            # A kill can tear a write, a full disk can cut it short.
            if file is not None:
                part = data[: self._rng.randint(0, len(data))]
                file.write(part, len(file.seen) if offset is None else offset)
                if isinstance(fault, ShortWriteError) and part:
                    return len(part)
            if isinstance(fault, ShortWriteError):
                raise OSError(fault.errno, os.strerror(fault.errno)) from None
            raise
        assert file is not None
        start = len(file.seen) if offset is None else offset
        if self.disk.full and start + len(data) > len(file.seen):
            # What fits into the file's last block is taken, then there is no further one.
            blocks = -(-max(len(file.seen), file.reserved) // PAGE)
            room = min(len(data), blocks * PAGE - start)
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[:room]
        file.write(data, start)
        return len(data)

    def reserve(self, fd: int, size: int) -> None:
        with contextlib.suppress(OSError, ShortWriteError):  # one that fails does nothing
            self._call("reserve")
            if not self.disk.full:
                self._open[fd][0].reserved = size

    def sync(self, fd: int) -> None:
        file = self._open[fd][0] if not self.dead else None
        try:
            self._call("sync")
        except OSError:
            assert file is not None
            file.fail_sync(self._rng)
            raise
        assert file is not None
        file.sync()

    def sync_directory(self, path: Path) -> None:
        self._call("sync_directory")
        self.disk.sync_names()

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename")
        self.disk.change_name("rename", source, target, self.disk.names[source])

    def empty(self, path: Path) -> None:
        self._call("empty")
        if path not in self.disk.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        file = self.disk.names[path]
        file.seen.clear()
        file.dirty.clear()
        file.writes.clear()

    def unlink(self, path: Path) -> None:
        self._call("unlink")
        if path not in self.disk.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self.disk.change_name("unlink", path, None, self.disk.names[path])

    def make_directory(self, path: Path) -> None:
        self._call("make_directory")

    def stat(self, path: Path) -> os.stat_result:
        self._call("stat")
        if path == self.disk.folder:
            return SimpleNamespace(st_mtime_ns=self.disk.clock)
        if path not in self.disk.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._status(self.disk.names[path])

    def stat_open(self, fd: int) -> os.stat_result:
        self._call("stat")
        return self._status(self._open[fd][0])

    @staticmethod
    def _status(file: File) -> os.stat_result:
        return SimpleNamespace(st_ino=file.number, st_dev=1, st_size=len(file.seen))

    def names(self, path: Path) -> list[str]:
        self._call("names")
        return [name.name for name in self.disk.names if name.parent == path]

    def lock(self, fd: int, operation: int) -> None:
        self._call("lock")
        file, me = self._open[fd][0], (self, fd)
        if operation == fcntl.LOCK_UN:
            if file.holder == me:
                file.holder = None
        elif file.holder in (None, me):
            file.holder = me
        else:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")


class ShortWriteError(Exception):
    """A write that is cut short; the next one fails with `errno`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


def crash_at(call: int) -> Callable[[str, int], None]:
    """Returns faults that stop the process at its call number `call`."""

    def faults(name: str, number: int) -> None:
        if number == call:
            raise Crash

    return faults


def fail_at(call: int, error: int, only: str | None = None) -> Callable[[str, int], None]:
    """Returns faults that fail one call: the `call`-th of all, or of those named `only`."""
    seen = itertools.count(1)

    def faults(name: str, number: int) -> None:
        if only is not None:
            if name != only or next(seen) != call:
                return
        elif number != call:
            return
        if name == "write":
            raise ShortWriteError(error)
        raise OSError(error, os.strerror(error))

    return faults

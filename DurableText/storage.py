"""Every call to the operating system that the queue and the DB make goes through this layer.

Nothing else in `Queue` and `DB` opens a file for writing, writes, syncs, renames, unlinks or locks.
So a test can put another `Storage` in its place that fails, stops or forgets at any call it likes,
and what the code does after a full disk or a power loss is tried out rather than argued about.

What the layer adds to the bare calls:

* `sync` reaches the disk itself: see `syncing`.
* Descriptors are closed on exec, so no program started from here inherits a lock.
* `reserve` is Linux's `fallocate`, which Python has only in a form that changes the file's size.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from DurableText.files import syncing
from DurableText.files.links import is_own_link, real_path
from DurableText.files.no_pipes import open_no_pipe

# State is for the user who runs the scripts, and for a group that may look at it.
FILE_MODE = 0o640
FOLDER_MODE = 0o750

# The errors of a full disk and of a used-up quota.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

# SQLite's ways to say it, SQLITE_FULL and SQLITE_IOERR_SHMSIZE; the second is of its log's index.
_SQLITE_NO_ROOM = (13, 4874)

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_fallocate = (
    getattr(ctypes.CDLL(None), "fallocate64", None) if sys.platform.startswith("linux") else None
)


class Storage:
    """The operating system as it is. Stateless; may be used by any number of threads."""

    def open(self, path: Path, flags: int) -> int:
        """Open a file and return its descriptor; `flags` as in `os.open`.

        What may be written is not followed to where a stranger's link leads. What is read is no
        pipe: see `open_no_pipe`.
        """
        if flags & (os.O_WRONLY | os.O_RDWR) and not is_own_link(path):
            flags |= os.O_NOFOLLOW
        if flags & os.O_WRONLY:
            return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
        return open_no_pipe(path, flags, FILE_MODE)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset` on; fewer near the end of the file."""
        return os.pread(fd, size, offset)

    def append(self, fd: int, data: bytes | memoryview) -> int:
        """Write at the end of a file opened with O_APPEND; return how many bytes it took."""
        return os.write(fd, data)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset` of a file opened without O_APPEND; return how many bytes it took."""
        return os.pwrite(fd, data, offset)

    def reserve(self, fd: int, size: int) -> None:
        """Set blocks aside for the first `size` bytes; neither size nor content change.

        Writing there then needs no new block: a sync has less to do, and a disk that fills up
        meanwhile does not matter. Where that cannot be had, nothing happens.
        """
        if _fallocate is not None:
            _fallocate(fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size))

    def is_at(self, path: Path, fd: int) -> bool:
        """Tell whether the file that is open as `fd` is the one that stands at `path`."""
        try:
            there = self.stat(path)
        except FileNotFoundError:
            return False
        ours = self.stat_open(fd)
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def sync(self, fd: int) -> None:
        """Return once the file's bytes and its size are on the disk."""
        syncing.sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Return once the names in the directory are on the disk."""
        syncing.sync_path(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file, in place of `target` if there is one."""
        source.replace(target)

    def empty(self, path: Path) -> None:
        """Take all bytes from a file."""
        os.truncate(path, 0)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Make one directory; fine if it is there."""
        path.mkdir(FOLDER_MODE, exist_ok=True)

    def stat(self, path: Path) -> os.stat_result:
        """Return what the system knows of the file at `path`."""
        return path.stat()

    def stat_open(self, fd: int) -> os.stat_result:
        """Return what the system knows of an open file."""
        return os.fstat(fd)

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, in no order."""
        return [entry.name for entry in os.scandir(path)]

    def lock(self, fd: int, operation: int) -> None:
        """Set or lift a kernel lock; `operation` as in `fcntl.flock`."""
        fcntl.flock(fd, operation)


# The layer used where no other is given.
STORAGE = Storage()


def head(storage: Storage, path: Path, size: int) -> bytes:
    """Return the first bytes of a file, fewer where it has fewer.

    Raises:
        OSError: it cannot be opened or read, or is a pipe.
    """
    fd = storage.open(path, os.O_RDONLY)
    try:
        return storage.read(fd, size, 0)
    finally:
        storage.close(fd)


def lacks_room(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if getattr(error, "sqlite_errorcode", None) in _SQLITE_NO_ROOM:
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of a descriptor say which file they are of.

    Raises:
        OSError: as it was, with the file's name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def append_all(storage: Storage, fd: int, data: bytes) -> None:
    """Append all of `data`, going on after short writes."""
    done = storage.append(fd, data)
    while done < len(data):
        done += storage.append(fd, memoryview(data)[done:])


def write_file(path: Path, data: bytes) -> None:
    """Write what a tool makes of state, a picture, say; a file of that name is replaced.

    As the state that it shows it is for the user and the group, and no stranger's link leads away.

    Raises:
        OSError: it cannot be written.
    """
    real_path(path)  # says whose link it is
    with os.fdopen(STORAGE.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(data)


def write_all(storage: Storage, fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, going on after short writes."""
    done = storage.write(fd, data, offset)
    while done < len(data):
        done += storage.write(fd, memoryview(data)[done:], offset + done)


class NoFileError(OSError):
    """Raised where a folder or a device stands in the place of a file: another name is needed."""


def require_name_fits(storage: Storage, longest: Path) -> None:
    """Make sure that the disk takes the longest name of a side file, before it is needed.

    Raises:
        OSError: it is too long.
    """
    with contextlib.suppress(FileNotFoundError):
        storage.stat(longest)


def refuse_what_is_no_file(path: Path) -> None:
    """Raise `NoFileError` if there is something at `path` that is no file: a folder, a device.

    To be called before anything is made beside it. One look only: the file may just be sealed.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise NoFileError(f"{path} is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise NoFileError(f"{path} is a device or pipe, not a file")


def make_durable_directory(storage: Storage, path: Path) -> None:
    """Make `path` and the directories above it that are missing, each durably.

    The parent of `path` is synced even if `path` was there: the process that made it may have
    been killed before it came to that.
    """
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        storage.make_directory(directory)
        if os.access(directory.parent, os.R_OK):
            storage.sync_directory(directory.parent)

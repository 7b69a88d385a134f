"""The three files of a SQLite database, as a connection has them open, and what became of them.

SQLite writes on into a file that was unlinked, and takes one that was cut or overwritten for what
it was. So whoever is about to confirm something looks here first, and once more afterwards: the
names show the files that are open, none is shorter than it was, and none is an older one.

Of the log and its index `log_index` tells. Of the database a counter in its header does
(`user_version`). Each checkpoint is followed by a transaction that counts one up, and so the next
checkpoint brings a higher number into the file: a lower one than before was never written by
SQLite.

POSIX locks go when *any* descriptor of their file is closed in the process, SQLite's with them. So
a database is opened here once in a process, before SQLite does, and closed after its last
connection. https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from DurableText.files import syncing
from DurableText.files.no_pipes import open_no_pipe
from MessageBroker.local.log_index import LogEnd, end_of, is_of_another

# https://www.sqlite.org/fileformat.html#the_database_header
_MAGIC = b"SQLite format 3\0"
_COUNTER = slice(60, 64)
_HEADER_BYTES = 64

# State is for the user and the group: messages may be private.
FILE_MODE = 0o640
FOLDER_MODE = 0o750

_Inode = tuple[int, int]


@dataclass(frozen=True)
class Change:
    """What somebody else did to a file.

    Attributes:
        path: the file.
        what: was done, in words.
        is_gone: its name shows none; what is open is as it was.
    """

    path: Path
    what: str
    is_gone: bool = False


@dataclass
class _Shared:
    """What all connections of this process to one database have in common.

    Attributes:
        descriptors: of the database.
        users: how many connections there are, or are about to be.
        opening: held while one is opened or closed: SQLite removes the log with the last one, and
            whoever has not read anything yet makes another.
        connected: how many have read something, and so keep the log.
        sizes: of each file, the largest that was seen: none shrinks while it is in use.
        checkpoints: the highest counter that was seen in the database.
        beside: descriptors of the log and of its index.
        log_end: the last that was seen.
        is_suspect: a sync of the log has failed.
    """

    descriptors: list[int] = field(default_factory=list)
    users: int = 0
    opening: threading.RLock = field(default_factory=threading.RLock)
    connected: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    beside: dict[_Inode, int] = field(default_factory=dict)
    log_end: LogEnd | None = None
    is_suspect: bool = False


_shared: dict[_Inode, _Shared] = {}
_shared_lock = threading.Lock()


class FilesInUse:
    """The files of one connection. For one thread at a time."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the database file, before SQLite does.

        Args:
            path: the file.
            create: whether to make it, empty, if it is missing.

        Raises:
            OSError: it cannot be opened.
        """
        self._path = path
        self._closed = False
        self._connected = False
        with _shared_lock:
            inode = _inode_of(path)
            if inode not in _shared:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW  # a planted link is none of ours
                flags |= os.O_CREAT if create else 0
                descriptor = open_no_pipe(path, flags, FILE_MODE)
                inode = _inode(os.fstat(descriptor))
                _shared.setdefault(inode, _Shared()).descriptors.append(descriptor)
            self._shared = _shared[inode]
            self._shared.users += 1
        self._descriptor = self._shared.descriptors[0]
        self._inode = inode
        self._inodes = {str(path): inode}

    def begin(self) -> None:
        """Note the files that SQLite has made beside it; to be called when it has read something.

        Raises:
            OSError: they are not there.
        """
        self._log, self._index = (self._open_beside(suffix) for suffix in ("-wal", "-shm"))
        self._connected = True
        self._shared.connected += 1

    def opening(self) -> threading.RLock:
        """Return what is held while SQLite's connection is opened or closed."""
        return self._shared.opening

    def ended(self) -> None:
        """Note that SQLite's connection is closed: with the last one its log was removed."""
        if self._connected:
            self._connected = False
            self._shared.connected -= 1
        if not self._shared.connected:
            for suffix in ("-wal", "-shm"):
                self._shared.sizes.pop(str(self._beside(suffix)), None)
            self._shared.log_end = None

    def _open_beside(self, suffix: str) -> int:
        path = self._beside(suffix)
        with _shared_lock:
            inode = self._inodes[str(path)] = _inode(path.stat())
            if inode not in self._shared.beside:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                self._shared.beside[inode] = open_no_pipe(path, flags, FILE_MODE)
            return self._shared.beside[inode]

    def close(self) -> None:
        """Close it, after SQLite's connection; twice is fine."""
        with _shared_lock:
            if self._closed:
                return
            self._closed = True
            self._shared.users -= 1
            if not self._shared.users:
                del _shared[self._inode]
                for descriptor in (*self._shared.descriptors, *self._shared.beside.values()):
                    os.close(descriptor)

    @property
    def counter(self) -> int:
        """The counter in the database file, without what stands in the log only."""
        return int.from_bytes(self._header()[_COUNTER], "big")

    @property
    def is_suspect(self) -> bool:
        """Whether a sync of the log has failed, and what stands in it may be lost."""
        return self._shared.is_suspect

    @is_suspect.setter
    def is_suspect(self, yes: bool) -> None:
        self._shared.is_suspect = yes

    def sync_log(self) -> None:
        """Return when the log is on the disk; raises an OSError if it is not."""
        syncing.sync(self._log)

    def change(self) -> Change | None:
        """Tell what somebody else did to a file; None if all are as they were.

        What was seen by others is read first: they go on while this one looks.
        """
        sizes, checkpoints = self._shared.sizes, self._shared.checkpoints
        log_end = self._shared.log_end
        for name, inode in self._inodes.items():
            size = sizes.get(name, 0)
            try:
                status = os.stat(name)  # noqa: PTH116 - twice as fast, and asked several times a batch
            except FileNotFoundError:
                return Change(Path(name), "was removed", is_gone=True)
            if (status.st_dev, status.st_ino) != inode:
                return Change(Path(name), "was replaced by another one")
            if status.st_size < size:
                return Change(Path(name), "was cut")
            sizes[name] = status.st_size
        header = self._header()
        if not header.startswith(_MAGIC):
            return Change(self._path, "was overwritten")
        counter = int.from_bytes(header[_COUNTER], "big")
        if counter < checkpoints:
            return Change(self._path, "was overwritten by an older one")
        self._shared.checkpoints = counter
        return self._change_of_log(log_end)

    def _change_of_log(self, seen: LogEnd | None) -> Change | None:
        end = end_of(self._index)
        if end is not None:
            if seen is not None and end.is_before(seen):
                return Change(self._beside("-shm"), "was overwritten by an older one")
            self._shared.log_end = end
        if is_of_another(self._log, self._index):
            return Change(self._beside("-wal"), "was overwritten by another one")
        return None

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _header(self) -> bytes:
        return os.pread(self._descriptor, _HEADER_BYTES, 0)


def make_folder(path: Path) -> None:
    """Make a folder for state, with those above it; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
        missing.mkdir(FOLDER_MODE, exist_ok=True)
    path.mkdir(FOLDER_MODE, exist_ok=True)  # raises where something else stands there


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def _inode_of(path: Path) -> _Inode | None:
    with contextlib.suppress(FileNotFoundError):
        return _inode(path.stat())
    return None

"""A SQLite file of the embedded broker, as several processes use it at once.

Durability is SQLite's: WAL with `synchronous=FULL`, one fsync a transaction. A connection whose
writes may be undone by a power loss (never by a kill) is spared them: the next one that syncs takes
them along. Or it syncs by itself, when it holds no lock any more, so that others need not wait.
Fairness is ours: SQLite's busy handler polls, and starves a writer beside busy ones. See
`turnstile`.

A file is made once, and only by whoever holds the catalogue's lock; everybody else opens what is
there. And a file that was removed, replaced or cut under a process that has it open takes no more
writes: they would be confirmed, and seen by nobody. See `files_in_use`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from DurableText.program.process_limits import what_is_lacking
from DurableText.program.remedies import is_open_to_us, whose_it_is
from MessageBroker.errors import BrokerReplacedError, BrokerUnavailableError, ConfigurationError
from MessageBroker.local.files_in_use import Change, FilesInUse
from MessageBroker.local.turnstile import LockedError, Turnstile
from MessageBroker.local.whats_there import require_files

# Stands in the header of each file, so that an older program refuses what a newer one has made.
# Files of versions up to 0.2 have none. What a reader could not read raises it.
FORMAT = 1
FORMAT_MARK = 0x65646D00  # "edm" and the format: SQLite's `application_id`

# Sixteen messages of an image's size fit a page: twice the speed of SQLite's 4,096.
PAGE_BYTES = 16_384
# Waiting for a writer that holds the file outside the turnstile (a backup, a debugger).
BUSY_TIMEOUT_SECONDS = 5.0
# A disk with less than this is full: a transaction may be of one message as large as is allowed.
FULL_DISK_BYTES = 8 * 1024 * 1024


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into the broker's.

    What passes by itself or by making room (locked, full, unreadable, too many open files) is an
    outage; a file that is damaged or no database needs somebody to look at it.
    """
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        kind = LockedError if _is_busy(error) else BrokerUnavailableError
        raise kind(
            f"local broker: {path} cannot be used now: {error}{_remedy(path, error)}"
        ) from _cause(path, error)
    except sqlite3.ProgrammingError:
        raise  # ours: nothing is wrong with the file
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"local broker: {path} is damaged ({error}): move its folder away, or restore it"
        ) from error


def _is_busy(error: Exception) -> bool:
    """Tell whether another connection has the file; extended codes hold the code in one byte."""
    code = getattr(error, "sqlite_errorcode", None)  # sqlite3 sets it on its own errors alone
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def _remedy(path: Path, error: Exception) -> str:
    """Say what to do about a limit, rights that were taken or a full disk.

    SQLite's error may be an I/O error as well.
    """
    if (lacking := what_is_lacking(error)) is not None:
        return f": {lacking}"
    with contextlib.suppress(OSError):
        path.parent.stat()  # one that was removed is nobody's
        if not is_open_to_us(path.parent):
            return f": {whose_it_is(path.parent)}"
        if _has_no_file_left(path.parent):
            return f": no more files can be made on the disk of {path.parent}: remove some"
        if shutil.disk_usage(path.parent).free < FULL_DISK_BYTES:
            return f": make room on the disk of {path.parent}"
    return ""


def _cause(path: Path, error: Exception) -> Exception:
    """Return the error, or what it comes of where SQLite does not say it."""
    with contextlib.suppress(OSError):
        if _has_no_file_left(path.parent):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return error


def _has_no_file_left(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_files > 0 and disk.f_favail == 0  # some file systems do not count them


class LocalDatabase:
    """One connection to a file. For one thread at a time; open another for another.

    Attributes:
        path: the file.
        gone: why its name shows it no more, at the last look; whoever removes a file of this
            broker leaves a mark in it.
    """

    def __init__(self, path: Path, schema: str | None = None, *, synced: bool = True) -> None:
        """Open the file.

        Args:
            path: the file.
            schema: makes what is missing; None if all must be there.
            synced: whether a transaction is on the disk when it has ended.

        Raises:
            BrokerUnavailableError: it cannot be opened now.
            BrokerReplacedError: it is not there, or empty.
            ConfigurationError: it is damaged, or something else stands in its place.
        """
        self.path = path
        self.gone: Change | None = None
        self._is_lost = False
        self._busy_milliseconds = int(1000 * BUSY_TIMEOUT_SECONDS)
        self._counted = -1  # the counter in the file when one more was last seen in the log
        with translated_errors(path), contextlib.ExitStack() as opened:
            require_files(path)
            if schema is None and not path.exists():
                raise self.replaced(path, "was removed")
            self._files = FilesInUse(path, create=schema is not None)
            opened.callback(self._files.close)
            self._turnstile = Turnstile(path)
            opened.callback(self._turnstile.close)
            with self._files.opening():
                self._connect(schema, synced)
            opened.pop_all()

    def _connect(self, schema: str | None, synced: bool) -> None:
        path = self.path
        with contextlib.ExitStack() as opened:
            self._db = sqlite3.connect(
                f"{path.as_uri()}?mode={'rw' if schema is None else 'rwc'}",
                uri=True,
                timeout=BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            opened.callback(self._end)
            # SQLite opens the file when it is first read: here, so that a file which is removed
            # from now on is still the one whose mark tells that it was deleted.
            is_made = self.value("PRAGMA user_version")
            if schema is None and not is_made:
                raise self.replaced(path, "was emptied")
            self._require_known_format()
            if not is_made:
                with self._turnstile.held():
                    self._db.execute(f"PRAGMA page_size={PAGE_BYTES}")
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.executescript(
                        f"BEGIN IMMEDIATE; {schema} PRAGMA user_version=1; "
                        f"PRAGMA application_id={FORMAT_MARK + FORMAT}; COMMIT"
                    )
            self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            # SQLite's own default; Debian's writes zeros over what is deleted, to the disk too.
            self._db.execute("PRAGMA secure_delete=OFF")
            self._db.execute("PRAGMA fullfsync=ON")  # macOS: fsync leaves data in the disk's cache
            self._files.begin()
            self._look()
            self.require_there()
            opened.pop_all()

    def _require_known_format(self) -> None:
        mark = self.value("PRAGMA application_id")
        if mark & ~0xFF == FORMAT_MARK and mark & 0xFF > FORMAT:
            raise ConfigurationError(
                f"local broker: {self.path} has format {mark & 0xFF}, this program knows format "
                f"{FORMAT}: a newer version has written it; use that one, or name another folder"
            )

    def close(self) -> None:
        """Close the connection; twice is fine.

        Not where the files are others by now: SQLite would write what it knows into them, remove
        the log of whoever uses them, and crash on an index that was cut. It is left open, also at
        the end of the process, when Python closes whatever is left.
        """
        with contextlib.suppress(BrokerReplacedError):
            self._look()
        if self._is_lost:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        else:
            with self._files.opening():
                self._end()
            self._files.close()
        self._turnstile.close()

    def _end(self) -> None:
        self._db.close()
        self._files.ended()

    def value(self, sql: str, *parameters: Any) -> Any:
        """Read one value; None where there is no row."""
        row = self._db.execute(sql, parameters).fetchone()
        return row[0] if row else None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read, without waiting for anybody.

        Raises:
            BrokerUnavailableError, ConfigurationError: it cannot be read.
        """
        with translated_errors(self.path):
            self._look()
            yield self._db

    @contextlib.contextmanager
    def writing(
        self, patience: float | None = None, *, confirms: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """Write in one transaction: durable at its end if `synced`, undone if anything is raised.

        Args:
            patience: seconds to wait for others, in the turnstile or outside; None for
                `PATIENCE_SECONDS` and `BUSY_TIMEOUT_SECONDS`.
            confirms: whether somebody relies on what is written: then the files are looked at
                afterwards, too.

        Raises:
            LockedError: others did not let go of it in time.
            BrokerUnavailableError, ConfigurationError: it cannot be written.
            BrokerReplacedError: it was removed, replaced or cut; nothing that is written counts.
        """
        began = time.monotonic()
        with translated_errors(self.path), self._turnstile.held(patience):
            left = BUSY_TIMEOUT_SECONDS
            if patience is not None:
                left = patience - (time.monotonic() - began)
            self._wait_at_most(left)
            self._look()
            try:  # a Ctrl-C may come as soon as the transaction has begun
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._count_checkpoint()
                self._db.execute("COMMIT")
                if confirms:
                    self._look()
                    self.require_there()  # while nobody else has the lock, and may delete it
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # it may not have begun, or be over
                    self._db.execute("ROLLBACK")
                raise

    def sync(self) -> None:
        """Return when all that was committed so far is on the disk; others may write meanwhile.

        Raises:
            BrokerUnavailableError: it may not be there.
        """
        with translated_errors(self.path):
            if self._files.is_suspect:
                self._begin_log_anew()
            try:
                self._files.sync_log()
            except OSError:
                self._files.is_suspect = True
                self._begin_log_anew()
                raise

    def _begin_log_anew(self) -> None:
        """Bring all that stands in the log into the database, so that the log is needed no more.

        The system tells of a failed sync once, and takes for written what was not. With it all
        would go that is written behind it.
        """
        with self._turnstile.held():
            self._look()
            if self.value("PRAGMA wal_checkpoint(RESTART)"):
                raise sqlite3.OperationalError("its log was not synced, and others use it")
        self._files.is_suspect = False

    def _wait_at_most(self, seconds: float) -> None:
        milliseconds = int(1000 * max(0.0, min(seconds, BUSY_TIMEOUT_SECONDS)))
        if milliseconds != self._busy_milliseconds:
            self._db.execute(f"PRAGMA busy_timeout={milliseconds}")
            self._busy_milliseconds = milliseconds

    def require_there(self) -> None:
        """Go on if the names show the files that were opened; see `gone`.

        Raises:
            BrokerReplacedError: they do not.
        """
        if self.gone is not None:
            raise self.replaced(self.gone.path, self.gone.what)

    def _look(self) -> None:
        """See what became of the files, before SQLite does: it crashes on an index that was cut."""
        self.gone = change = self._files.change()
        if change is not None and not change.is_gone:
            raise self.replaced(change.path, change.what)

    def replaced(self, path: Path, what: str) -> BrokerReplacedError:
        """Give the files up; return the error that says why.

        Args:
            path: the one that is another by now.
            what: became of it.
        """
        self._is_lost = True
        return BrokerReplacedError(
            f"local broker: {path} {what} while it was in use, and nothing more is confirmed: move "
            "it back, or start again with what is there"
        )

    def _count_checkpoint(self) -> None:
        """Count one up in the log if the last one to do so is in the file: see `files_in_use`."""
        counted = self._files.counter
        if counted != self._counted:
            if self.value("PRAGMA user_version") == counted:
                self._db.execute(f"PRAGMA user_version={counted + 1}")
            self._counted = counted

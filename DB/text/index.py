"""Where each id stands in the text: `db_for_app_2.index`, an SQLite file that may be lost.

The text is the only truth. The index holds, for each row, a 63-bit key of the id and the row's
offset, about 20 bytes; what it says is believed only after the row was read. It may be behind the
text (a kill): it notes how much it covers, and the rest is read again on opening. It must not be
of another text: it notes the last bytes that it covers, and if those differ it is made anew, as it
is when SQLite finds it damaged. Deleting it is always safe.

Keys of UUIDv7 ids begin with their time, so that rows come in the order of the index's pages and
few pages change: ten times faster at ten million rows than random keys.

Rows are held back in memory and written in groups: small ones where their keys are neighbours, as
those of UUIDv7 ids are, so that no insert waits for long (16,384 rows are 13 to 60 ms); large ones
where each row has a page of its own, and several in one save its writing. SQLite's write-ahead log
with `synchronous=NORMAL` keeps the file consistent over a power loss without a sync per group.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2s
from pathlib import Path

from DurableText.program.remedies import require_path_for_sqlite
from DurableText.storage import STORAGE

logger = logging.getLogger(__name__)

FORMAT = 2

# Of a key made of a UUIDv7's time (ms), behind that time.
RANDOM_BITS = 22

# Whoever may publish can choose ids: without a key he could choose such as share one place.
# 40 bytes hold the text of a UUID; the first 16 are the salt of what hashes other ids.
SECRET_BYTES = 40
SECRET_BITS = 8 * SECRET_BYTES

# Rows held back in memory: about 2 MB, and at most so many to read again after a kill.
PENDING_ROWS = 16_384
# Of neighbours: 1.0 µs of CPU a row in groups of 512 to 4,096, 1.1 in those of 16,384; of others
# 3.3 µs in groups of 1,024, 1.8 in those of 16,384 (400,000 rows).
PENDING_NEIGHBOURS = 1_024
# Keys of UUIDv7 ids of one minute differ by less; those of other ids do not, but by chance.
NEIGHBOURS_SPAN = 60_000 << RANDOM_BITS

# Memory for SQLite's pages.
CACHE_KIB = 48 * 1024

# SQLite takes at least 999 parameters in a statement.
KEYS_PER_QUERY = 500

# So many bytes at the end of what is covered tell this text from another one.
FINGERPRINT_BYTES = 64

_SECRET_MASK = (1 << SECRET_BITS) - 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    key INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (key, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), secret BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS covered (
    one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER, bytes INTEGER, fingerprint BLOB
);
"""


class IndexDamagedError(Exception):
    """Raised when the index cannot be used; it has to be made anew."""


class Index:
    """The index of one text. One thread at a time.

    Attributes:
        covered: the index knows all rows before this offset.
        fingerprint: the text's last bytes before `covered`.
        secret: what keys are made with.
    """

    def __init__(self, path: Path, secret: bytes | None = None) -> None:
        """Open the file, making it if missing.

        Args:
            path: the file.
            secret: for one that is made; None for a new one.

        Raises:
            IndexDamagedError: SQLite cannot read the file, or it is of another format.
            OSError: its path is too long.
        """
        self.secret = secret or os.urandom(SECRET_BYTES)
        self.covered = 0
        self.fingerprint = b""
        self._path = path
        self._pending: dict[int, list[int]] = {}
        self._pending_rows = 0
        self._scattered = False  # what is pending is known to be no neighbours
        self._warned = False
        require_path_for_sqlite(path)
        try:
            # SQLite would make it readable for everybody; its side files have the mode of this one.
            STORAGE.close(STORAGE.open(path, os.O_RDWR | os.O_CREAT))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise IndexDamagedError(str(error)) from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise IndexDamagedError(str(error)) from error

    def _open(self) -> None:
        db = self._db
        # One process has the DB's lock. And a file of shared memory that is cut kills who maps it.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        db.executescript(_SCHEMA)
        row = db.execute("SELECT format, bytes, fingerprint FROM covered").fetchone()
        if row is not None:
            if row[0] != FORMAT:
                raise sqlite3.DatabaseError(f"it has format {row[0]}, this is format {FORMAT}")
            self.covered, self.fingerprint = row[1], row[2]
        db.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (self.secret,))
        self.secret = db.execute("SELECT secret FROM secret").fetchone()[0]
        self._hash = blake2s(salt=self.secret[:8], person=self.secret[8:16], digest_size=8)
        self._factor = int.from_bytes(self.secret, "big") | 1
        self._highest = db.execute("SELECT max(key) FROM rows").fetchone()[0] or 0
        self._stamp = self._look()

    @property
    def highest(self) -> int:
        """The highest key, of whatever row; 0 if there is none."""
        return max(self._highest, max(self._pending, default=0))

    def key_of(self, result_id: str) -> int:
        """Return the 63-bit key of an id; ids can share one.

        Those of UUIDs are hashed by multiply-shift (Dietzfelbinger and others, 1997): two of them
        share their 22 bits with a chance of 2 in 2^22 at most, whoever has chosen them. BLAKE2s
        takes 0.6 µs more for each, a twentieth of an insert.
        """
        if len(result_id) == 36 and result_id[14] == "7" and result_id.isascii():
            try:
                milliseconds = int(result_id[:8] + result_id[9:13], 16)
            except ValueError:
                pass
            else:
                product = self._factor * int.from_bytes(result_id.encode(), "big")
                mixed = (product & _SECRET_MASK) >> (SECRET_BITS - RANDOM_BITS)
                return (milliseconds & 0x1FF_FFFF_FFFF) << RANDOM_BITS | mixed
        keyed = self._hash.copy()
        keyed.update(result_id.encode(errors="surrogatepass"))
        return int.from_bytes(keyed.digest(), "big") >> 1

    def find(self, keys: Iterable[int]) -> dict[int, list[int]]:
        """Return the offsets of rows that may have these keys; keys without any are left out.

        Raises:
            IndexDamagedError: SQLite cannot read the file, or somebody has changed it.
        """
        if self._look() != self._stamp:
            raise IndexDamagedError("it was removed, replaced or changed while it was open")
        found: dict[int, list[int]] = {}
        ask = []
        pending, highest = self._pending, self._highest
        for key in keys:
            if key in pending:
                found[key] = list(pending[key])
            if key <= highest:
                ask.append(key)
        try:
            for start in range(0, len(ask), KEYS_PER_QUERY):
                some = ask[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, offset FROM rows WHERE key IN ({marks})"  # noqa: S608
                for key, offset in self._db.execute(query, some):
                    found.setdefault(key, []).append(offset)
        except sqlite3.Error as error:
            raise IndexDamagedError(str(error)) from error
        return found

    def add(self, rows: Sequence[tuple[int, int]], covered: int, fingerprint: bytes) -> None:
        """Add (key, offset) of rows; the index now covers the text up to `covered`."""
        pending = self._pending
        for key, offset in rows:
            if key in pending:
                pending[key].append(offset)
            else:
                pending[key] = [offset]
        self._pending_rows += len(rows)
        self.covered, self.fingerprint = covered, fingerprint
        if self._pending_rows >= PENDING_NEIGHBOURS and not self._scattered:
            self._scattered = max(pending) - min(pending) > NEIGHBOURS_SPAN
        if self._pending_rows >= (PENDING_ROWS if self._scattered else PENDING_NEIGHBOURS):
            self.flush()

    def flush(self) -> None:
        """Write the rows held back. If that fails they stay in memory: the text has them."""
        rows = [(key, offset) for key, offsets in self._pending.items() for offset in offsets]
        rows.sort()
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", rows)
            db.execute(
                "INSERT OR REPLACE INTO covered VALUES (1, ?, ?, ?)",
                (FORMAT, self.covered, self.fingerprint),
            )
            db.execute("COMMIT")
            self._stamp = self._look()
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):  # a full disk can undo it by itself
                db.execute("ROLLBACK")
            if not self._warned:
                logger.warning("%s: cannot be written (%s); kept in memory", self._path, error)
                self._warned = True
            return
        if rows:
            self._highest = max(self._highest, rows[-1][0])
        self._pending.clear()
        self._pending_rows = 0
        self._scattered = False

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Write the rows held back and close the file."""
        self.flush()
        self.abandon()

    def abandon(self) -> None:
        """Close the file without writing the rows held back."""
        with contextlib.suppress(sqlite3.Error):  # it has nothing to lose
            self._db.close()

    def discard(self) -> None:
        """Close the file and remove it."""
        self.abandon()
        remove(self._path)


def move(path: Path, new: Path) -> None:
    """Rename the files of an index, of which some may be missing."""
    remove(new)
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            STORAGE.rename(path.with_name(path.name + suffix), new.with_name(new.name + suffix))


def remove(path: Path) -> None:
    """Remove the files of an index; of a journal too, which SQLite might begin with."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

"""Copies an SQLite file that is in use: the embedded broker's topics, a DB."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from DurableText.storage import STORAGE, lacks_room


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite file as it is at one moment to a new one, durably; writers go on meanwhile.

    Raises:
        OSError: it is not there, or the copy cannot be written.
        sqlite3.Error: it is damaged, or others hold it.
    """
    source.stat()
    # SQLite would make it readable for everybody.
    STORAGE.close(STORAGE.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True)) as there,
        contextlib.closing(sqlite3.connect(target)) as here,
    ):
        try:
            there.backup(here)
        except sqlite3.Error as error:
            if not lacks_room(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
    fd = STORAGE.open(target, os.O_RDWR)
    try:
        STORAGE.sync(fd)
    finally:
        STORAGE.close(fd)

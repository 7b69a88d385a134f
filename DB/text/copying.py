"""A copy of a text DB that is in use: every row that is stored when it is made.

The text is opened first, and known by its inode if it becomes a part meanwhile. The list of parts
is written anew for what was copied; indexes are not copied, they are made anew.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from DB.text.part_list import Listed, Part, read_list, tail_of, write_list
from DB.text.parts import part_numbers, part_path
from DurableText.copying import (
    ATTEMPTS,
    ChangedMeanwhileError,
    copy_file,
    copy_open,
    whole_lines,
)
from DurableText.storage import STORAGE


def copy_texts(texts: list[Path], folder: Path) -> None:
    """Copy the DB's texts, with their parts, into an empty folder, durably; waits for no lock.

    Args:
        texts: results, conflicts, shadows; those that do not exist are left out, but the first.
        folder: an empty folder.

    Raises:
        FileNotFoundError: there is no DB.
        OSError: it cannot be read, or the copy not be written.
    """
    for number, text in enumerate(texts):
        if not text.exists() and not part_numbers(text, STORAGE):
            if number == 0:
                raise FileNotFoundError(2, "there is no DB", str(text))
            continue
        _copy_text(text, folder)
        quarantine = text.with_name(f"{text.stem}.quarantine{text.suffix}")
        if quarantine.exists():
            copy_file(quarantine, folder / quarantine.name)


def _copy_text(text: Path, folder: Path) -> None:
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # just between two renames
            fd = STORAGE.open(text, os.O_RDONLY)
            break
        if part_numbers(text, STORAGE) and not text.exists():  # killed there: no text has begun
            _copy_parts(text, folder, None)
            return
    else:
        raise ChangedMeanwhileError(f"{text}: it is rotated faster than it is opened")
    try:
        _copy_parts(text, folder, STORAGE.stat_open(fd).st_ino)
        copy_open(fd, folder / text.name, whole_lines(fd))
    finally:
        STORAGE.close(fd)


def _copy_parts(text: Path, folder: Path, but: int | None) -> None:
    """Copy the parts, but for the one with the inode `but`, and write the list of them."""
    copied: dict[int, Part] = {}
    numbers = part_numbers(text, STORAGE)
    for number in numbers:
        part = part_path(text, number)
        try:
            fd = STORAGE.open(part, os.O_RDONLY)
        except FileNotFoundError:  # retention has just removed it
            continue
        try:
            status = STORAGE.stat_open(fd)
            if status.st_ino == but:
                break  # what comes behind it was stored since the copy began
            copy_open(fd, folder / part.name, status.st_size)
            tail = tail_of(partial(STORAGE.read, fd), status.st_size)
            copied[number] = Part(status.st_size, tail)
        finally:
            STORAGE.close(fd)
    listed = read_list(text, STORAGE) or Listed()
    if not copied and not listed.dropped:
        return
    # What does not fit its line does not fit it in the copy either: `verify` tells of it.
    known = {number: listed.parts.get(number, part) for number, part in copied.items()}
    missing = {
        number: part
        for number, part in listed.parts.items()
        if copied and number < max(copied) and number not in numbers
    }
    write_list(folder / text.name, STORAGE, replace(listed, parts={**known, **missing}))

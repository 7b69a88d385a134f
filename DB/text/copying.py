"""A copy of a text DB that is in use: every row that is stored when it is made.

The list of parts is written anew for what was copied; indexes are not copied, they are made anew.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

from DB.text.part_list import Listed, Part, read_list, tail_of, write_list
from DB.text.parts import open_in_turn, part_numbers
from DurableText.copying import copy_file, copy_open, whole_lines
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
    """Copy the parts and the text, and write the list of those that were copied."""
    copied: dict[int, Part] = {}
    with contextlib.closing(open_in_turn(text, STORAGE)) as files:
        for file in files:
            if file.number is None:
                copy_open(file.fd, folder / file.path.name, whole_lines(file.fd))
                continue
            copy_open(file.fd, folder / file.path.name, file.size)
            tail = tail_of(partial(STORAGE.read, file.fd), file.size)
            copied[file.number] = Part(file.size, tail)
    listed = read_list(text, STORAGE) or Listed()
    if not copied and not listed.dropped:
        return
    # What does not fit its line does not fit it in the copy either: `verify` tells of it.
    known = {number: listed.parts.get(number, part) for number, part in copied.items()}
    missing = {
        number: part
        for number, part in listed.parts.items()
        if copied and number < max(copied) and number not in copied
    }
    write_list(folder / text.name, STORAGE, replace(listed, parts={**known, **missing}))

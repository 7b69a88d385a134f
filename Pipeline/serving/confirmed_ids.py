"""The file of `app_1.py --ids`: the id of each image that the broker has confirmed, a line each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from DurableText.files.links import real_path
from DurableText.program.process_limits import what_is_lacking
from DurableText.program.wording import counted
from DurableText.storage import STORAGE, make_durable_directory
from Pipeline.observability.waiting import Reason
from Pipeline.script.script import Script
from Pipeline.stop import ScriptError


class UnwrittenError(Exception):
    """Raised when ids could not be written for now; they are kept for the next try."""


class ConfirmedIds:
    """The file, open to be appended to. Not synced: what is published the broker knows.

    A disk that is full is waited out: an image whose id is missing would count as unpublished.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, making it and its folder.

        As all that a script keeps it is for the user and the group, and no stranger's link leads
        away.

        Args:
            path: the file; a device, too.

        Raises:
            ScriptError: it cannot be written.
        """
        self._path = path
        try:
            real_path(path)  # says whose link it is
            make_durable_directory(STORAGE, path.parent)
            self._fd = STORAGE.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            # What a full disk or a kill has torn off shall not be glued to the first id.
            self._left = b"\n" if _ends_torn(path) else b""
        except OSError as error:
            raise ScriptError(f"--ids {path} cannot be written: {error.strerror}") from error

    def append(self, ids: Sequence[str], script: Script) -> None:
        """Append ids, waiting until there is room for them.

        Raises:
            ScriptError: the script shall stop, and still waits.
        """
        self._left += "".join(f"{each}\n" for each in ids).encode()
        if self._left and script.wait_out({UnwrittenError: Reason.IDS}, self._write) is None:
            missing = counted(self._left.count(b"\n"), "id")
            raise ScriptError(f"--ids {self._path}: lacks {missing} of images that are published")

    def _write(self) -> bool:
        try:
            while self._left:
                self._left = self._left[STORAGE.append(self._fd, self._left) :]
        except OSError as error:
            remedy = what_is_lacking(error) or "make room, or look at the disk"
            raise UnwrittenError(
                f"--ids {self._path} cannot be written now: {error.strerror}: {remedy}"
            ) from error
        return True

    def close(self) -> None:
        """Close the file."""
        STORAGE.close(self._fd)


def _ends_torn(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"

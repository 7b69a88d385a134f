"""What a person can do about an error of the system: rights, limits, what stands in the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from DurableText.program.process_limits import what_is_lacking

# What stands in the place of a file for good, however long somebody waits.
_IN_THE_WAY = {
    errno.EISDIR: "is a folder, not a file: move it away",
    errno.ELOOP: "is a link in a circle, or one of somebody else's, which is not followed: move "
    "it away",
    errno.ENAMETOOLONG: "is a longer name than can be had: choose a shorter one",
}
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)

# SQLite's `mxPathname`, and what it must be able to put behind the name of a file.
_SQLITE_PATH_BYTES, _LONGEST_SUFFIX = 512, "-journal"


def in_the_way(error: BaseException) -> str | None:
    """Say what stands in a file's place, where waiting would not help; None of other errors."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    what = _IN_THE_WAY.get(error.errno or 0)
    return None if what is None else f"{error.filename} {what}"


def remedy_of(error: BaseException, otherwise: str) -> str:
    """Say what to do about an error that may pass.

    Args:
        error: of the system, or of SQLite.
        otherwise: what to say where nothing more is known.
    """
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
        return whose_it_is(Path(os.fsdecode(error.filename)))
    return what_is_lacking(error) or otherwise


def require_path_for_sqlite(path: Path) -> None:
    """Make sure that SQLite can open a file by its path; it would not say why it cannot.

    Raises:
        OSError: the path is too long.
    """
    if len(os.fsencode(path)) + len(_LONGEST_SUFFIX) > _SQLITE_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))


def is_read_only(path: Path) -> bool:
    """Tell whether a file or folder, which is there, is on a disk that takes no writes now."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def is_open_to_us(path: Path) -> bool:
    """Tell whether this process may read and write a file, or make and find files in a folder."""
    mode = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def whose_it_is(path: Path) -> str:
    """Say what keeps this process from a file, or from a folder on the way to it: whose it is."""
    for each in (path, *path.parents):
        try:
            owner = each.stat().st_uid
        except OSError:  # it is not there, or cannot be seen: the folder tells
            continue
        if is_open_to_us(each):
            continue
        if is_read_only(each):
            return (
                f"{each} is on a disk that is mounted read-only: look into the system's log why, "
                "and mount it writable again"
            )
        return (
            f"{each} belongs to the user {owner}, and this process (user {os.geteuid()}) may not "
            "read and write it: change its owner or mode, or run as that user"
        )
    return "change its owner or mode"

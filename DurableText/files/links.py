"""Where a path really leads, and whose links are followed on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# As the kernel's own limit.
MAX_LINKS = 40


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return where the file at `path` really is, links followed.

    Locks and all other side files are there: they are the same for everybody, whichever way a
    process comes to the file. A link in a folder where others may write, or of somebody else, may
    have been planted to have another file written to.

    Raises:
        PermissionError: there is such a link on the way.
    """
    way = Path(os.path.abspath(path))  # noqa: PTH100 - `Path.absolute` keeps `..`
    for _ in range(MAX_LINKS):
        link = next((each for each in (*reversed(way.parents), way) if each.is_symlink()), None)
        if link is None:
            break
        if not is_own_link(link):
            raise PermissionError(
                errno.EPERM, "the link, or its folder, is somebody else's: name the file", str(link)
            )
        target = link.parent / link.readlink() / way.relative_to(link)
        way = Path(os.path.abspath(target))  # noqa: PTH100
    return Path(os.path.realpath(path))


def is_own_link(path: Path) -> bool:
    """Tell whether a path is a link that, as its folder, belongs to this user or to root."""
    try:
        owners = {path.lstat().st_uid, path.parent.stat().st_uid}
    except OSError:
        return False
    return path.is_symlink() and owners <= {0, os.geteuid()}

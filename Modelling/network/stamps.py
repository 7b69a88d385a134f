"""What tells one state of files from another without reading them.

What was read between two looks that found the same stamps is of one state.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

# Of its content's last change, of its inode's (which nobody can set), bytes, number of the inode.
Stamp = tuple[int, int, int, int]

MISSING: Stamp = (0, 0, 0, 0)

# Like no stamp that is found later.
UNSETTLED: Stamp = (-1, -1, -1, -1)

# Two changes within one tick of the system's clock (10 ms at most) leave the same stamp: what was
# changed just now is looked at again when that is over, as Git does with its index.
TICK_NS = 12_000_000


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file, or of what a link leads to; a missing one has one too."""
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def settled_stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamps of files as they stay while nothing is changed.

    What is being written all the time is `UNSETTLED`.
    """
    stamps = {path: stamp_of(path) for path in paths}
    if any(map(_is_fresh, stamps.values())):
        time.sleep(TICK_NS / 1e9)
        stamps = {path: stamp_of(path) for path in stamps}
    return {path: UNSETTLED if _is_fresh(each) else each for path, each in stamps.items()}


def _is_fresh(stamp: Stamp) -> bool:
    """Tell whether it was changed within this tick; what lies ahead is another machine's clock."""
    return 0 <= time.time_ns() - stamp[1] < TICK_NS

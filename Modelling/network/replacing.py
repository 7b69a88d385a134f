"""Files that are replaced in one step, and are on the disk then."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from DurableText.files import syncing


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            syncing.sync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    syncing.sync_path(path.parent)  # the rename itself is durable once the folder is

"""The hash by which files know each other."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hash a file, or a folder by the names and hashes of all files in it, as 64 hex digits.

    Raises:
        OSError: It is not there, or cannot be read to its end.
    """
    if path.is_dir():
        lines = [f"{sha256_of(each)}  {each.relative_to(path)}\n" for each in files_of(path)]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_regular(path: Path) -> None:
    """Refuse pipes and devices, whose reading may never end.

    Raises:
        OSError: It is such, or a folder, or not there.
    """
    path.stat()
    if not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(code, "a folder" if path.is_dir() else "a pipe or a device, not a file", path)


def files_of(folder: Path) -> list[Path]:
    """List the files of a folder, at any depth, in one order everywhere."""
    return sorted(each for each in folder.rglob("*") if each.is_file())

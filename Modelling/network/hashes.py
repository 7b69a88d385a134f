"""The hash by which files know each other."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hash a file, or a folder by the names and hashes of all files in it, as 64 hex digits."""
    if path.is_dir():
        lines = [f"{sha256_of(each)}  {each.relative_to(path)}\n" for each in files_of(path)]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[Path]:
    """List the files of a folder, at any depth, in one order everywhere."""
    return sorted(each for each in folder.rglob("*") if each.is_file())

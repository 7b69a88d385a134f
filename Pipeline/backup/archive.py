"""A backup: a folder with a part for each store, and `backup.json`, which is written last.

It names each file with its size and SHA-256. A folder without it is no whole backup.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from DurableText.codec import CHUNK_BYTES
from DurableText.installation import __version__
from DurableText.storage import STORAGE, naming, write_all

MANIFEST = "backup.json"

# What a change of the manifest, or of what lies where, raises.
FORMAT = 1

# The stores, in the order in which they are copied and put back: see `copying`.
STORES = ("checkpoint", "broker", "queue", "db")


class BackupError(Exception):
    """Raised when no backup can be made, or one cannot be used."""


@dataclass(frozen=True)
class BackedUpFile:
    """A file of a backup.

    Attributes:
        path: below the backup's folder: `<store>/<name>`.
        bytes: its size.
        sha256: of its content.
    """

    path: str
    bytes: int
    sha256: str

    @property
    def store(self) -> str:
        """The store that it belongs to."""
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """Its name there."""
        return self.path.partition("/")[2]


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself.

    Attributes:
        began_at: when the first store was copied: what was confirmed before is in it.
        names: of each store that it has, the name of its file: `log.txt`.
        files: all of its files.
    """

    began_at: str
    names: dict[str, str]
    files: list[BackedUpFile]


def seal(folder: Path, began_at: str, names: dict[str, str]) -> Backup:
    """Write `backup.json` for what lies in a folder, durably.

    Raises:
        OSError: it cannot be read or written.
    """
    files = [
        BackedUpFile(str(path.relative_to(folder)), *_sum_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder
    ]
    backup = Backup(began_at, names, files)
    told = {"format": FORMAT, "version": __version__, **asdict(backup)}
    fd = STORAGE.open(folder / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        data = json.dumps(told, indent=2).encode() + b"\n"  # takes names that are not UTF-8
        with naming(folder / MANIFEST):
            write_all(STORAGE, fd, data, 0)
            STORAGE.sync(fd)
    finally:
        STORAGE.close(fd)
    for path in (*(each for each in folder.rglob("*") if each.is_dir()), folder):
        STORAGE.sync_directory(path)
    return backup


def open_backup(folder: Path) -> Backup:
    """Read what a backup says of itself.

    Raises:
        BackupError: it is no whole backup, or a newer version has made it.
    """
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        form = told["format"]
        if form != FORMAT:
            raise BackupError(
                f"{folder} has format {form!r} of version {told.get('version')}; this is version "
                f"{__version__}, which knows format {FORMAT}: restore it with that version"
            )
        files = [BackedUpFile(**each) for each in told["files"]]
        return Backup(told["began_at"], dict(told["names"]), files)
    except OSError as error:
        raise BackupError(
            f"{folder} is no whole backup: {MANIFEST}: {error.strerror}; one that was broken off "
            "has none"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}") from error


def problems_of(folder: Path, backup: Backup) -> list[str]:
    """Read all files of a backup; return what is wrong, in words."""
    problems = []
    for entry in backup.files:
        path = folder / entry.path
        if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
            problems.append(f"{entry.path}: leads out of the backup")
            continue
        try:
            size, digest = _sum_of(path)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        if size != entry.bytes:
            problems.append(f"{path}: has {size:,} bytes, and had {entry.bytes:,}")
        elif digest != entry.sha256:
            problems.append(f"{path}: is damaged: its SHA-256 is another one")
    return problems


def is_same(path: Path, entry: BackedUpFile) -> bool:
    """Tell whether a file is what the backup has."""
    return path.is_file() and _sum_of(path) == (entry.bytes, entry.sha256)


def _sum_of(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()

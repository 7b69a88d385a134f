"""Puts the state of a backup where nothing is yet."""

from __future__ import annotations

from pathlib import Path

from DurableText.copying import copy_file
from DurableText.storage import STORAGE, make_durable_directory
from Pipeline.backup.archive import (
    STORES,
    BackedUpFile,
    Backup,
    BackupError,
    is_same,
    open_backup,
    problems_of,
)
from Pipeline.backup.places import RESTORING, Places


def restore(folder: Path, places: Places) -> Backup:
    """Put all files of a backup in their places.

    All is read and written before the first file gets its name. After a kill the same again goes
    on: a file that is in its place already, as the backup has it, is left there.

    Raises:
        BackupError: it is no whole backup, or there is state already; nothing has changed.
        OSError: something cannot be read or written.
    """
    backup = open_backup(folder)
    problems = problems_of(folder, backup)
    if problems:
        raise BackupError("\n".join(["the backup is not sound, nothing is restored:", *problems]))
    targets = {entry: _target(entry, backup, places) for entry in backup.files}
    _refuse_state(places, backup, targets)
    fresh = {each: target for each, target in targets.items() if not is_same(target, each)}
    for parent in {target.parent for target in fresh.values()}:
        make_durable_directory(STORAGE, parent)
    for entry, target in fresh.items():
        waiting = target.with_name(target.name + RESTORING)
        waiting.unlink(missing_ok=True)  # what a kill has left
        copy_file(folder / entry.path, waiting)
    for target in fresh.values():
        STORAGE.rename(target.with_name(target.name + RESTORING), target)
    for parent in {target.parent for target in targets.values()}:
        STORAGE.sync_directory(parent)
    return backup


def _target(entry: BackedUpFile, backup: Backup, places: Places) -> Path:
    place = places.path_of(entry.store) if entry.store in STORES else None
    if place is None:
        raise BackupError(
            f"the backup holds {entry.path}, and no option says where it goes: give the options "
            "with which the backup was made"
        )
    stem = Path(backup.names[entry.store]).stem
    if entry.store in ("queue", "db") and entry.name.startswith(f"{stem}."):
        return place.with_name(place.stem + entry.name[len(stem) :])
    return place.parent / entry.name


def _refuse_state(places: Places, backup: Backup, targets: dict[BackedUpFile, Path]) -> None:
    known = {target: entry for entry, target in targets.items()}
    there = {path: store for store in backup.names for path in places.state_of(store)}
    # An ONNX file's weights have names of their own.
    there |= {target: entry.store for target, entry in known.items() if target.exists()}
    for path, store in there.items():
        entry = known.get(path)
        if entry is None or not is_same(path, entry):
            raise BackupError(
                f"{path} is there already; nothing is restored: end the scripts, and move the "
                f"state away, or name another place for the {store}"
            )

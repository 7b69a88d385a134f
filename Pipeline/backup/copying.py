"""Copies the state of a pipeline while it runs.

Each step stores durably before the step before it forgets. So what flows is at every moment in at
least one store, and **the stores are copied in the direction of the flow**: what has left a store
before it was copied is in the next one by then, and is found there. What is copied twice is a
repetition, which the DB knows by its id. In the other direction a result could pass both copies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from DB import DatabaseError, open_database
from DurableText.copying import copy_file
from DurableText.files.links import real_path
from DurableText.lock import FileLock
from DurableText.moments import timestamp
from DurableText.storage import FOLDER_MODE, STORAGE, make_durable_directory
from MessageBroker import BrokerError
from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.local.copying import TopicCopies
from Pipeline.backup.archive import MANIFEST, STORES, Backup, BackupError, seal
from Pipeline.backup.places import Places
from Queue import QueueError, open_queue

LOCK = "making.lock"


def make_backup(places: Places, folder: Path) -> Backup:
    """Copy all stores into a new folder; it has its name only once it is whole.

    Raises:
        BackupError: the folder is there, another backup is made into it, or a store is not there.
        OSError: something cannot be read or written; nothing of the backup is left.
    """
    folder = real_path(folder)
    if folder.exists():
        raise BackupError(f"{folder} is there already: name a new folder")
    partial = folder.with_name(f"{folder.name}.partial")
    with _made(partial):
        began_at = timestamp()
        names = {}
        for store in STORES:
            path = places.path_of(store)
            if path is not None:
                names[store] = path.name
                (partial / store).mkdir(FOLDER_MODE)
        _copy_in_order(places, partial)
        backup = seal(partial, began_at, names)
        STORAGE.rename(partial, folder)  # with the lock: nobody begins in what is just whole
        STORAGE.unlink(folder / LOCK)
    STORAGE.sync_directory(folder.parent)
    return backup


@contextlib.contextmanager
def _made(partial: Path) -> Iterator[None]:
    """Make the folder, over what one that was killed has left; remove it after an error."""
    make_durable_directory(STORAGE, partial)
    _require_own(partial)
    lock = FileLock(partial / LOCK, STORAGE)
    try:
        if not lock.try_acquire():
            raise BackupError(f"{partial} is just being made by {lock.holder()}")
        for left in list(partial.iterdir()):
            if left.name in STORES:
                shutil.rmtree(left)
            elif left.name == MANIFEST:
                STORAGE.unlink(left)
        try:
            yield
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        lock.close()


def _require_own(partial: Path) -> None:
    """Make sure that all in a folder is a backup's, before any of it is removed."""
    names = {each.name for each in partial.iterdir()}
    others = sorted(names - {*STORES, MANIFEST, LOCK}) if LOCK in names else sorted(names)
    if partial.is_symlink() or others:
        what = partial / others[0] if others else partial
        raise BackupError(f"{what} is none of a backup's: name another folder")


def _copy_in_order(places: Places, folder: Path) -> None:
    images, inferences = places.topics
    topics = None
    try:
        if places.checkpoint is not None:
            _copy_checkpoint(places.checkpoint, folder / "checkpoint")
        if places.broker is not None:
            topics = TopicCopies(places.broker, folder / "broker")
            topics.copy(images)
            topics.copy(dead_letter_topic(images))
        if places.queue is not None:
            with open_queue(places.queue, read_only=True) as queue:
                queue.copy_to(folder / "queue")
            _copy_journals(places.queue, folder / "queue")
        if topics is not None:
            for topic in (inferences, dead_letter_topic(inferences), *topics.left):
                topics.copy(topic)
        if places.db is not None:
            _copy_db(places.db, folder / "db")
    except (BrokerError, DatabaseError, QueueError) as error:
        raise BackupError(str(error)) from error


def _copy_db(path: Path, folder: Path) -> None:
    where = f"sqlite:///{path}" if _is_sqlite(path) else path
    with open_database(where, read_only=True) as db:
        db.copy_to(folder)


def _is_sqlite(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"
    return False


def _copy_journals(queue: Path, folder: Path) -> None:
    """Copy what model servers remember of images that ended them."""
    for journal in _beside(queue, f"{queue.stem}.in_flight."):
        if journal.suffix == ".json":
            copy_file(journal, folder / journal.name)


def _copy_checkpoint(path: Path, folder: Path) -> None:
    """Copy a checkpoint and what lies beside it: first what says which files belong together."""
    if not path.exists():
        raise FileNotFoundError(2, "there is no checkpoint", str(path))
    path = path.parent.resolve() / path.name  # the release that a link shows now, and no other
    start = f"{path.stem}."
    for each in (path, *path.parent.iterdir()):
        if each.is_dir() and (each == path or each.name.startswith(start)):
            raise BackupError(f"{each} is a folder: copy it by itself, without --checkpoint")
    beside = _beside(path, start)
    for each in sorted(beside, key=lambda file: (file.suffix != ".json", file.name)):
        copy_file(each, folder / each.name)
    for each in beside:
        if each.suffix.lower() == ".onnx":
            _copy_weights(each, folder)


def _copy_weights(onnx: Path, folder: Path) -> None:
    """Copy the further files in which an ONNX file has its weights, under the names it knows."""
    from Modelling.errors import CheckpointError
    from Modelling.network.onnx_files import weights_beside

    try:
        weights = weights_beside(onnx)
    except CheckpointError as error:
        raise BackupError(str(error)) from error
    for location, file in weights.items():
        target = folder / os.path.normpath(location)
        if not target.is_relative_to(folder) or ".." in target.parts:
            raise BackupError(
                f"{onnx}: it names its weights by {location!r}, which would lead elsewhere in "
                "another folder: save it anew, with onnx.save"
            )
        if not target.exists():  # else its name begins as the checkpoint's does
            make_durable_directory(STORAGE, target.parent)
            copy_file(file, target)


def _beside(path: Path, start: str) -> list[Path]:
    """Return the files in a file's folder whose names begin so, whatever signs are in them."""
    beside = path.parent.iterdir()
    return [each for each in beside if each.name.startswith(start) and each.is_file()]

"""Where the stores of a pipeline are."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from DurableText.files.links import real_path
from DurableText.program.urls import scheme_of
from MessageBroker import MessageBrokerFactory
from MessageBroker.configuration import config_folder, read_broker_config

# What belongs to a store and is no state: locks, and indexes, which are made anew.
NO_STATE = (".lock", ".index", ".index-wal", ".index-shm", ".turn", ".bells")


@dataclass(frozen=True)
class Places:
    """Where they are; None for what a server keeps.

    Attributes:
        checkpoint: the checkpoint's file; None if it is not wanted.
        broker: the embedded broker's folder.
        topics: of images and of results.
        queue: the text queue's file.
        db: the DB's file.
        elsewhere: what a server keeps, in words.
    """

    checkpoint: Path | None
    broker: Path | None
    topics: tuple[str, str]
    queue: Path | None
    db: Path | None
    elsewhere: tuple[str, ...]

    def path_of(self, store: str) -> Path | None:
        """Return the file of a store; of the broker, its catalogue."""
        if store == "broker":
            return None if self.broker is None else self.broker / "catalogue.sqlite"
        path: Path | None = getattr(self, store)
        return path

    def state_of(self, store: str) -> Iterator[Path]:
        """Yield the files of state that a store has now."""
        path = self.path_of(store)
        if path is None or not path.parent.is_dir():
            return
        for each in sorted(path.parent.iterdir()):
            ours = store == "broker" or each.name.startswith(f"{path.stem}.")
            if ours and each.is_file() and not each.name.endswith((*NO_STATE, RESTORING)):
                yield each


# Behind the name of a file that is not yet put in its place.
RESTORING = ".restoring"


def places_of(options: argparse.Namespace) -> Places:
    """Return where the stores are that the options name.

    Raises:
        ConfigurationError: a setting of the broker is missing or wrong.
    """
    folder = config_folder(options.config_dir)
    config = read_broker_config(folder)
    name = MessageBrokerFactory.chosen(options.broker, folder)
    elsewhere = []
    broker = None
    if name == "local":
        from MessageBroker.local_handler import LocalHandler

        broker = real_path(LocalHandler.folder_in(folder))
    else:
        elsewhere.append(f"the topics: {name} keeps them")
    queue = _file_of(options.queue)
    if queue is None:
        elsewhere.append("the queue: copy it with its server's tools")
    db = _file_of(options.db)
    if db is None:
        elsewhere.append("the DB: copy it with its server's tools, after this")
    return Places(
        options.checkpoint,
        broker,
        (config.topics.images, config.topics.inferences),
        queue,
        db,
        tuple(elsewhere),
    )


def _file_of(where: str | Path) -> Path | None:
    scheme = scheme_of(where)
    if scheme is None:
        return real_path(where)
    if scheme == "sqlite":
        from DB import open_database

        with open_database(where, read_only=True) as db:
            return db.path
    return None

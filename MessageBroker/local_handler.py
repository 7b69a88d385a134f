"""The embedded broker: SQLite files in one folder, several processes at once, no server.

For one machine: a first try, the demo, tests, and small installations. It keeps every promise of
the contract, with two limits of files shared by processes: a folder on a network file system is
none that it can keep them on, and a process that is stopped in the middle of a transaction keeps
the others waiting until it is continued or killed (the log says which it is).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from MessageBroker.broker_core import BrokerCore
from MessageBroker.broker_interface import default_subscription
from MessageBroker.configuration import IniFile
from MessageBroker.driver import Publication, Stream
from MessageBroker.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.local_publisher import LocalPublisher
from MessageBroker.local_store import TopicStore, connect, translated_errors
from MessageBroker.local_stream import LocalStream
from MessageBroker.local_turnstile import Turnstile
from MessageBroker.settings import DeliverySettings

LOCAL_CONFIG = "local_config.ini"
PATH_VARIABLE = "LOCAL_BROKER_PATH"
DEFAULT_PATH = Path(__file__).resolve().parent.parent / ".local_broker"

# File systems take 255 bytes; what follows the topic's name takes some.
MAX_STEM = 200

CATALOGUE_SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (name TEXT PRIMARY KEY, file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (id TEXT PRIMARY KEY, topic TEXT NOT NULL);
"""


class LocalHandler(BrokerCore):
    """Topics as SQLite files, with a catalogue beside them that names topics and subscriptions."""

    name = "local"
    cloudevents_prefix = "ce_"

    def __init__(self, path: Path | str, delivery: DeliverySettings | None = None) -> None:
        """Open the broker in the folder `path`, making it if it is missing.

        Args:
            path: a folder on a local disk.
            delivery: how messages are delivered; None for the defaults.

        Raises:
            ConfigurationError: the folder cannot be made or written.
        """
        super().__init__(delivery)
        self._folder = Path(path).resolve()
        self._catalogue_path = self._folder / "catalogue.sqlite"
        self._publishers: dict[str, LocalPublisher] = {}
        self._publishers_lock = threading.Lock()
        self._catalogue_lock = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._turnstile = Turnstile(self._catalogue_path, create=True)
        except OSError as error:
            raise ConfigurationError(
                f"local broker: {self._folder} cannot be written ({error.strerror}): set "
                f"{PATH_VARIABLE}, or [default] path in {LOCAL_CONFIG}, to a folder that can"
            ) from error
        with translated_errors(self._catalogue_path), self._turnstile.held():
            self._catalogue = connect(self._catalogue_path)
            self._catalogue.executescript(CATALOGUE_SCHEMA)

    @classmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> LocalHandler:
        """Read `local_config.ini`; `LOCAL_BROKER_PATH` wins over it."""
        ini = IniFile(config_dir / LOCAL_CONFIG, ("default",))
        path = os.environ.get(PATH_VARIABLE)
        if path:
            return cls(Path(path), delivery)
        value = ini.section("default", {"path"}).get("path")
        return cls(config_dir / value if value else DEFAULT_PATH, delivery)

    # ------------------------------------------------------------------ topics

    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        created = set()
        with self._changing_catalogue() as catalogue:
            for topic, subscription_id in wanted.items():
                file = self._file_of(topic)
                if file is None:
                    # A name of its own each time: nobody who still has the file of a deleted
                    # topic open can take it for this one.
                    file = f"{topic[:MAX_STEM]}.{uuid.uuid4().hex[:12]}.sqlite"
                    catalogue.execute("INSERT INTO topic VALUES (?, ?)", (topic, file))
                    created.add(topic)
                self._add_subscription(topic, subscription_id, file)
        return created

    def _delete_topic(self, topic: str) -> bool:
        with self._changing_catalogue() as catalogue:
            file = self._file_of(topic)
            if file is None:
                return False
            store = TopicStore(self._folder / file, topic)
            store.mark_deleted()
            store.close()
            catalogue.execute("DELETE FROM subscription WHERE topic = ?", (topic,))
            catalogue.execute("DELETE FROM topic WHERE name = ?", (topic,))
        for path in self._folder.glob(f"{Path(file).stem}.*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        with self._publishers_lock:
            publisher = self._publishers.pop(topic, None)
        if publisher is not None:
            publisher.stop(timeout=1.0)
        return True

    def _list_topics(self) -> list[str]:
        with self._reading_catalogue() as catalogue:
            return [name for (name,) in catalogue.execute("SELECT name FROM topic")]

    def _has_topic(self, topic: str) -> bool:
        with self._reading_catalogue():
            return self._file_of(topic) is not None

    def _open_store(self, topic: str) -> TopicStore:
        with self._reading_catalogue():
            file = self._file_of(topic)
        if file is None:
            raise TopicNotFoundError(f"local broker: there is no topic {topic!r}: create it first")
        return TopicStore(self._folder / file, topic)

    # ------------------------------------------------------------------ publishing

    def _send(self, publications: Sequence[Publication]) -> None:
        topic = publications[0].topic
        with self._publishers_lock:
            publisher = self._publishers.get(topic)
            if publisher is None:
                publisher = LocalPublisher(lambda: self._open_store(topic), topic)
                self._publishers[topic] = publisher
        publisher.send(publications)

    # ------------------------------------------------------------------ consuming

    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        with self._changing_catalogue():
            file = self._file_of(topic)
            if file is None:
                raise TopicNotFoundError(
                    f"local broker: there is no topic {topic!r}: create it first"
                )
            self._add_subscription(topic, subscription_id, file)
        return LocalStream(lambda: self._open_store(topic), subscription_id)

    def _backlog(self, topic: str, subscription_id: str) -> int | None:
        store = self._open_store(topic)
        try:
            backlog = store.backlog(subscription_id)
        finally:
            store.close()
        if backlog is None:
            raise SubscriptionNotFoundError(
                f"local broker: topic {topic!r} has no subscription {subscription_id!r}"
            )
        return backlog

    def _add_subscription(self, topic: str, subscription_id: str, file: str) -> None:
        owner = self._catalogue.execute(
            "SELECT topic FROM subscription WHERE id = ?", (subscription_id,)
        ).fetchone()
        if owner is None:
            self._catalogue.execute(
                "INSERT INTO subscription VALUES (?, ?)", (subscription_id, topic)
            )
        elif owner[0] != topic:
            raise ConfigurationError(
                f"local broker: the subscription {subscription_id!r} belongs to the topic "
                f"{owner[0]!r}: choose another id for {topic!r}"
            )
        store = TopicStore(self._folder / file, topic)
        try:
            store.add_subscription(
                subscription_id, from_start=subscription_id == default_subscription(topic)
            )
        finally:
            store.close()

    # ------------------------------------------------------------------ life cycle

    def _ping(self, timeout: float) -> None:  # noqa: ARG002 - SQLite's busy time-out is shorter
        if not self._catalogue_path.exists():
            raise BrokerUnavailableError(
                f"local broker: {self._catalogue_path} is gone: restore it, or start anew"
            )
        with self._changing_catalogue():
            pass

    def _shutdown(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for publisher in self._publishers.values():
            publisher.stop(max(0.1, deadline - time.monotonic()))
        self._catalogue.close()
        self._turnstile.close()

    # ------------------------------------------------------------------ catalogue

    def _file_of(self, topic: str) -> str | None:
        row = self._catalogue.execute("SELECT file FROM topic WHERE name = ?", (topic,)).fetchone()
        return row[0] if row else None

    @contextlib.contextmanager
    def _reading_catalogue(self) -> Iterator[sqlite3.Connection]:
        with self._catalogue_lock, translated_errors(self._catalogue_path):
            yield self._catalogue

    @contextlib.contextmanager
    def _changing_catalogue(self) -> Iterator[sqlite3.Connection]:
        with self._reading_catalogue() as catalogue, self._turnstile.held():
            catalogue.execute("BEGIN IMMEDIATE")
            try:
                yield catalogue
                catalogue.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    catalogue.execute("ROLLBACK")
                raise

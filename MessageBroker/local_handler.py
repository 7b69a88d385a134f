"""The embedded broker: SQLite files in one folder, several processes at once, no server.

For one machine: a first try, the demo, tests, and small installations. It keeps every promise of
the contract, with two limits of files shared by processes: a folder on a network file system is
none that it can keep them on, and a process that is stopped in the middle of a transaction keeps
the others waiting until it is continued or killed (errors and the log say which it is).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from DurableText.files.links import real_path
from DurableText.installation.places import state_folder
from DurableText.program.remedies import is_read_only
from MessageBroker.broker_interface import default_subscription
from MessageBroker.cloudevents import KAFKA_PREFIX
from MessageBroker.configuration import DeliverySettings, ini_file
from MessageBroker.core.broker import BrokerCore
from MessageBroker.core.driver import AwaitedBatch, Batch, Stream
from MessageBroker.core.outbox import Outbox
from MessageBroker.environment import home_of, variable
from MessageBroker.errors import (
    BrokerReplacedError,
    ConfigurationError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)
from MessageBroker.local.catalogue import Catalogue
from MessageBroker.local.files_in_use import make_folder
from MessageBroker.local.publisher import LIMITS, LocalPublisher, lane_of
from MessageBroker.local.stream import LocalStream
from MessageBroker.message import Message

LOCAL_CONFIG = "local_config.ini"
PATH_VARIABLE = "LOCAL_BROKER_PATH"
DEFAULT_PATH = state_folder() / ".local_broker"


class LocalHandler(BrokerCore):
    """Topics as SQLite files, with a catalogue beside them that names topics and subscriptions."""

    name = "local"
    cloudevents_prefix = KAFKA_PREFIX

    def __init__(self, path: Path | str, delivery: DeliverySettings | None = None) -> None:
        """Open the broker in the folder `path`, making it if it is missing.

        Args:
            path: a folder on a local disk.
            delivery: how messages are delivered; None for the defaults.

        Raises:
            ConfigurationError: the folder cannot be made or written.
            BrokerUnavailableError: others hold its catalogue, or it cannot be read now.
        """
        super().__init__(delivery)
        # One a topic: a file that somebody else has locked keeps no other topic waiting.
        self._outboxes: dict[str, Outbox] = {}
        self._outboxes_lock = threading.Lock()
        self._catalogue = Catalogue(_writable(path))

    @classmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> LocalHandler:
        """Read `local_config.ini`; `LOCAL_BROKER_PATH` wins over it."""
        return cls(cls.folder_in(config_dir), delivery)

    @staticmethod
    def folder_in(config_dir: Path) -> Path:
        """Return the folder that the settings name, which may be missing."""
        ini = ini_file(config_dir, LOCAL_CONFIG, ("default",))
        path = variable(PATH_VARIABLE)
        if path:
            return home_of(path)
        value = ini.section("default", {"path"}).get("path")
        return ini.path_of(value) if value else DEFAULT_PATH

    # ------------------------------------------------------------------ topics

    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        created = set()
        with self._catalogue.changing():
            for topic, subscription_id in wanted.items():
                if self._catalogue.make(topic):
                    created.add(topic)
                self._add_subscription(topic, subscription_id)
        return created

    def _delete_topic(self, topic: str) -> bool:
        return self._catalogue.delete(topic)

    def _list_topics(self) -> list[str]:
        return self._catalogue.topics()

    def _has_topic(self, topic: str) -> bool:
        return self._catalogue.has(topic)

    # ------------------------------------------------------------------ publishing

    def _send(self, batch: Batch) -> None:
        with self._outboxes_lock:
            outbox = self._outboxes.get(batch.topic)
            if outbox is None:
                outbox = self._outboxes[batch.topic] = self._new_outbox(batch.topic)
        outbox.put(batch.publications(), waits=isinstance(batch, AwaitedBatch))

    def _new_outbox(self, topic: str) -> Outbox:
        publisher = LocalPublisher(
            lambda: self._catalogue.open(topic, synced=False),
            lambda: self._catalogue.path_of(topic),
        )
        return Outbox(
            f"publisher of {topic}",
            publisher.write,
            lane_of=lane_of,
            limits=LIMITS,
            outage=self._outage,
            at_end=publisher.close,
        )

    # ------------------------------------------------------------------ consuming

    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        with self._catalogue.changing():
            self._add_subscription(topic, subscription_id)
        return LocalStream(lambda: self._catalogue.open(topic, synced=False), subscription_id)

    def _delete_subscription(self, topic: str, subscription_id: str) -> bool:
        with self._catalogue.changing():
            return self._catalogue.remove_subscription(topic, subscription_id)

    def _backlog(self, topic: str, subscription_id: str) -> int | None:
        with contextlib.closing(self._catalogue.open(topic)) as store:
            backlog = store.backlog(subscription_id)
        if backlog is None:
            raise SubscriptionNotFoundError(
                f"local broker: the topic {topic!r} has no subscription {subscription_id!r}: "
                "subscribing creates it"
            )
        return backlog

    def _published_since_now(self, topic: str) -> Callable[[Message], bool]:
        with contextlib.closing(self._catalogue.open(topic)) as store:
            next_seq = store.next_seq()
        return lambda message: message.delivery.handle >= next_seq

    def _add_subscription(self, topic: str, subscription_id: str) -> None:
        self._catalogue.add_subscription(
            topic, subscription_id, from_start=subscription_id == default_subscription(topic)
        )

    # ------------------------------------------------------------------ life cycle

    def _ping(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._catalogue.changing(timeout):
            pass
        for topic in self._topics_to_ping:
            with (
                # One that is not there is made, or made again, by whoever is about to use it.
                contextlib.suppress(TopicNotFoundError, BrokerReplacedError),
                contextlib.closing(self._catalogue.open(topic)) as store,
            ):
                store.require_writable(max(0.0, deadline - time.monotonic()))

    def _shutdown(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for outbox in self._outboxes.values():
            outbox.stop()
        for outbox in self._outboxes.values():
            outbox.close(max(0.1, deadline - time.monotonic()))
        self._catalogue.close()


def _writable(path: Path | str) -> Path:
    """Make a folder, and return where it really is; a stranger's link leads nowhere."""
    try:
        folder = real_path(path)
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            number = errno.EROFS if is_read_only(folder) else errno.EACCES
            raise OSError(number, os.strerror(number))
    except OSError as error:
        raise ConfigurationError(
            f"local broker: {path} cannot be written ({error.strerror}): set "
            f"{PATH_VARIABLE}, or [default] path in {LOCAL_CONFIG}, to a folder that can"
        ) from error
    return folder

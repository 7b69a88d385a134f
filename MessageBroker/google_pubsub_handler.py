"""Google Cloud Pub/Sub behind the broker interface.

What Pub/Sub makes different: leases of single messages instead of a position in a partition
(`google_pubsub.leases`), pulls that must not be cut short (`google_pubsub.pulls`), requests that
hold messages of one key only (`google_pubsub.publisher`), and topics and subscriptions that are
resources of a project (`google_pubsub.admin`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from MessageBroker.cloudevents import PUBSUB_PREFIX
from MessageBroker.configuration import DeliverySettings, ini_file
from MessageBroker.core.broker import BrokerCore
from MessageBroker.core.driver import Batch, Stream
from MessageBroker.core.outbox import Outbox
from MessageBroker.environment import variable
from MessageBroker.errors import ConfigurationError
from MessageBroker.google_pubsub.admin import Topics
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.google_pubsub.publisher import LIMITS, PubSubPublisher, lane_of
from MessageBroker.google_pubsub.stream import PubSubStream
from MessageBroker.ini_file import IniFile

PUBSUB_CONFIG = "pubsub_config.ini"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"

# https://cloud.google.com/resource-manager/docs/creating-managing-projects; the part before a
# colon is the domain of older projects. A bad one would end up in the names of resources.
_PROJECT_ID = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,62}")


class PubSubHandler(BrokerCore):
    """Publishes to and consumes from one Google Cloud project, or an emulator."""

    name = "pubsub"
    cloudevents_prefix = PUBSUB_PREFIX

    def __init__(
        self,
        project_id: str,
        *,
        delivery: DeliverySettings | None = None,
        credentials: Any = None,
    ) -> None:
        """Prepare a handler; it connects when it is first used.

        Args:
            project_id: the Google Cloud project.
            delivery: how messages are delivered; None for the defaults.
            credentials: google-auth's object; None for those that Google's library finds.

        Raises:
            ConfigurationError: `project_id` cannot be the id of a project.
        """
        super().__init__(delivery)
        if not _PROJECT_ID.fullmatch(project_id):
            raise ConfigurationError(
                f"{PUBSUB_CONFIG} [default] project_id ({PROJECT_VARIABLE}) cannot be the id of a "
                "Google Cloud project: use the id (3 to 63 small letters, digits and '-'), not the "
                "name or number"
            )
        self._connection = Connection(project_id, credentials)
        self._topics = Topics(self._connection)
        self._outbox = Outbox(
            "pubsub publisher",
            PubSubPublisher(self._connection).write,
            lane_of=lane_of,
            limits=LIMITS,
            outage=self._outage,
        )

    @classmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> PubSubHandler:
        """Create the handler from `pubsub_config.ini`; `GOOGLE_CLOUD_PROJECT` wins over it."""
        ini = ini_file(config_dir, PUBSUB_CONFIG, ("default",))
        return cls(variable(PROJECT_VARIABLE) or _project_id(ini), delivery=delivery)

    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        created = set()
        for topic, subscription_id in wanted.items():
            if self._topics.create(topic):
                created.add(topic)
            self._topics.ensure_subscription(topic, subscription_id)
        return created

    def _delete_topic(self, topic: str) -> bool:
        return self._topics.delete(topic)

    def _list_topics(self) -> list[str]:
        return self._topics.list_names()

    def _has_topic(self, topic: str) -> bool:
        return self._topics.has(topic)

    def _send(self, batch: Batch) -> None:
        self._outbox.put(batch.publications())

    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        subscription = self._topics.subscribe(topic, subscription_id)
        return PubSubStream(self._connection, self._topics, subscription, self.delivery)

    def _delete_subscription(self, topic: str, subscription_id: str) -> bool:
        return self._topics.delete_subscription(topic, subscription_id)

    def _backlog(self, topic: str, subscription_id: str) -> int | None:
        self._topics.require_subscription(topic, subscription_id)
        return None  # only Cloud Monitoring knows, minutes later

    def _ping(self, timeout: float) -> None:
        self._topics.ping(timeout)

    def _shutdown(self, timeout: float) -> None:
        self._outbox.stop()  # first: a call that the next line ends is no outage
        self._connection.close()
        self._outbox.close(timeout)


def _project_id(ini: IniFile) -> str:
    try:
        project_id = ini.section("default", {"project_id"}).get("project_id")
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or set {PROJECT_VARIABLE}") from None
    if project_id is None:
        raise ConfigurationError(
            f"{ini.where('default', 'project_id')} is missing: add it, or set {PROJECT_VARIABLE}"
        )
    return project_id

"""What an author writes: `MemoryHandler`, and a `Stream` for each subscription.

The order of a key's messages between consumers is the broker's (`state`); all else that is promised
beyond sending and handing out is the core's.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from memory_broker.server import ANSWER_SECONDS, Client
from memory_broker.state import RENEW_SECONDS, NewMessage, StoredMessage
from MessageBroker import BrokerUnavailableError, Message
from MessageBroker.configuration import DeliverySettings, ini_file
from MessageBroker.core.broker import BrokerCore
from MessageBroker.core.driver import Batch, Publication, Stream
from MessageBroker.core.outbox import LaneName, Limits, Outbox
from MessageBroker.errors import ConfigurationError, SubscriptionNotFoundError, TopicNotFoundError
from MessageBroker.message import Delivery

CONFIG = "memory_config.ini"
SOCKET_VARIABLE = "MEMORY_BROKER_SOCKET"

LIMITS = Limits(
    senders=4,  # topics that are written to at the same time
    group_messages=1000,
    group_bytes=4 * 1024 * 1024,
    pending_messages=10_000,
    pending_bytes=32 * 1024 * 1024,
)


class MemoryHandler(BrokerCore):
    """Requests to a `memory_broker.server` on this machine."""

    name = "memory"
    cloudevents_prefix = "ce_"
    clock_tolerance = timedelta(0)  # it is this machine's

    def __init__(self, socket: Path, delivery: DeliverySettings | None = None) -> None:
        """Connect when it is first used.

        Args:
            socket: where the server listens.
            delivery: how messages are delivered; None for the defaults.
        """
        super().__init__(delivery)
        self._client = Client(socket)
        self._outbox = Outbox(
            "memory publisher",
            self._write,
            lane_of=_lane_of,
            limits=LIMITS,
            outage=self._outage,
        )

    @classmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> MemoryHandler:
        """Read `[default] socket` of `memory_config.ini`; `MEMORY_BROKER_SOCKET` wins over it.

        The file need not be there: nothing of this package lies among the project's own.
        """
        socket = os.environ.get(SOCKET_VARIABLE)
        if not socket and (config_dir / CONFIG).exists():
            ini = ini_file(config_dir, CONFIG, ("default",))
            socket = ini.section("default", {"socket"}).get("socket")
        if not socket:
            raise ConfigurationError(
                f"memory broker: set {SOCKET_VARIABLE}, or [default] socket in {CONFIG}, to the "
                "path at which `python -m memory_broker.server PATH` listens"
            )
        return cls(Path(socket), delivery)

    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        created: set[str] = self._client.call("create", dict(wanted))
        return created

    def _delete_topic(self, topic: str) -> bool:
        deleted: bool = self._client.call("delete", topic)
        return deleted

    def _list_topics(self) -> list[str]:
        topics: list[str] = self._client.call("topics")
        return topics

    def _has_topic(self, topic: str) -> bool:
        return topic in self._list_topics()

    def _send(self, batch: Batch) -> None:
        self._outbox.put(batch.publications())

    def _write(self, group: Sequence[Publication]) -> Sequence[str]:
        messages = [NewMessage(each.key, dict(each.attributes), each.data) for each in group]
        ids: list[str] = self._client.call("publish", group[0].topic, messages)
        return ids

    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        return MemoryStream(self._client, topic, subscription_id)

    def _delete_subscription(self, topic: str, subscription_id: str) -> bool:
        deleted: bool = self._client.call("delete_subscription", topic, subscription_id)
        return deleted

    def _backlog(self, topic: str, subscription_id: str) -> int:
        backlog: int = self._client.call("backlog", topic, subscription_id)
        return backlog

    def _ping(self, timeout: float) -> None:
        self._client.call("ping", timeout=timeout)

    def _shutdown(self, timeout: float) -> None:
        self._outbox.close(timeout)
        self._client.close()


def _lane_of(publication: Publication) -> LaneName:
    """Keep all messages of a topic in order."""
    return publication.topic, ""


class MemoryStream(Stream):
    """One consumer. A delivery's handle is the message's sequence number."""

    renew_interval = RENEW_SECONDS

    def __init__(self, client: Client, topic: str, subscription_id: str) -> None:
        """Join the subscription."""
        self._client = client
        self._topic = topic
        self._who = (topic, subscription_id, str(uuid.uuid4()))
        self._held: dict[int, Delivery] = {}  # what this consumer has, as far as it knows
        self._asked = 0
        self._arrived = 0
        self._client.call("join", *self._who)

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """See `Stream.fetch`. By the numbers of requests a lost answer comes again."""
        self._asked += 1
        stored: list[StoredMessage] | None = self._client.call(
            "fetch",
            *self._who,
            self._asked,
            self._arrived,
            max_messages,
            max_bytes,
            timeout,
            timeout=timeout + ANSWER_SECONDS,
        )
        self._arrived = self._asked
        if stored is None:
            self._begin_anew()
            return []
        return [self._received(each) for each in stored]

    def _received(self, stored: StoredMessage) -> Message:
        key, attributes, data = stored.message
        delivery = self._held[stored.seq] = Delivery(stored.seq, len(data))
        return Message(
            stored.id, data, dict(attributes), key, self._topic, stored.time, delivery=delivery
        )

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """See `Stream.acknowledge`."""
        seqs = self._own(deliveries)
        settled: int = self._client.call("acknowledge", *self._who, seqs)
        for seq in seqs:
            self._held.pop(seq, None)
        return len(deliveries) - settled

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        """See `Stream.renew`. The lease is the consumer's, and so of all that it holds."""
        if not self._client.call("renew", *self._who):
            self._begin_anew()

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """See `Stream.release`."""
        seqs = self._own(deliveries)
        self._client.call("release", *self._who, seqs)
        for seq in seqs:
            self._held.pop(seq, None)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`. Any consumer may get any message: nothing is assigned."""
        return True

    def close(self, deliveries: Sequence[Delivery]) -> None:
        """See `Stream.close`. If the broker is away, or has forgotten us, nothing is to be left."""
        try:
            self._client.call("leave", *self._who)
        except (BrokerUnavailableError, SubscriptionNotFoundError, TopicNotFoundError):
            return

    def _begin_anew(self) -> None:
        """Join again after others gave this consumer up for dead: it was stopped, say."""
        self._client.call("join", *self._who)
        lost = list(self._held.values())
        self._held.clear()
        self.on_lost(lost)

    def _own(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Leave out what was lost meanwhile."""
        return [each.handle for each in deliveries if self._held.get(each.handle) is each]

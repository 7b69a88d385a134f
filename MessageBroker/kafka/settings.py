"""The properties of the Kafka clients: ours by default, the user's, and those that must stay."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaException

from MessageBroker.errors import ConfigurationError
from MessageBroker.kafka.errors import error_of
from MessageBroker.kafka.property_checks import (
    FILE_SUFFIX,
    LIST_OF_PROPERTIES,
    NAMED_MECHANISMS,
    SECOND_NAMES,
    check_properties,
    place,
    plain_servers,
)

logger = logging.getLogger(__name__)

# With these anybody on the way can be the broker: told at each start.
_UNCHECKED = {
    "enable.ssl.certificate.verification": "false",
    "ssl.endpoint.identification.algorithm": "none",
}

# What topics and clients are set to, so that the largest message of `limits.py` (7 MiB) passes with
# its overhead.
KAFKA_MAX_MESSAGE_BYTES = 8 * 1024 * 1024

# A message that its topic takes becomes a dead letter, with more attributes: their topics, and the
# producers, take more.
KAFKA_MAX_LETTER_BYTES = 9 * 1024 * 1024

# What the promises of the handler rest on: another value is refused, not obeyed.
_FIXED = {
    # Otherwise a look-up or a misspelt name would make a topic.
    "allow.auto.create.topics": "false",
}
_FIXED_FOR_PRODUCERS = {
    # Retries neither repeat nor reorder messages; but see `Handover`.
    "enable.idempotence": "true",
    # A message never times out: a broker that is away is waited for.
    "message.timeout.ms": "0",
}
_FIXED_FOR_CONSUMERS = {
    # Offsets are stored when messages are acknowledged, not when they are fetched ...
    "enable.auto.offset.store": "false",
    # ... and what is stored is committed by the client, and before partitions go elsewhere.
    "enable.auto.commit": "true",
    # Partitions that stay keep flowing while others move.
    "partition.assignment.strategy": "cooperative-sticky",
    "group.protocol": "classic",
    # Offsets out of range: again rather than never.
    "auto.offset.reset": "earliest",
    # The end of a partition is no error; see `_ALWAYS_FOR_CONSUMERS`.
    "enable.partition.eof": "false",
}
# What concerns nobody but the handler.
_ALWAYS_FOR_CONSUMERS = {
    # The end of a partition is told: what stands before it and never comes belongs to nobody.
    "enable.partition.eof": "true",
}
# What would break a promise with any value.
_REFUSED = {
    "group.id": "it is the subscription's id (`--subscription`)",
    "group.instance.id": (
        "a static member keeps its partitions after it has closed, and two subscriptions of one "
        "process would fence each other"
    ),
    "transactional.id": "the producer uses no transactions, and would fence another with this id",
}

_DEFAULTS = {
    # 10 s would let a broker that is back wait too long (ms).
    "reconnect.backoff.max.ms": "1000",
    # A frozen broker is noticed, and another one asked, after this long, not after 60 s (ms).
    "socket.timeout.ms": "15000",
    # Partitions that are added to a topic are found after this long, not after 5 minutes (ms).
    "topic.metadata.refresh.interval.ms": "10000",
    # Three of those intervals, if it is not set: then an outage of half a minute would make a
    # consumer forget its topic (ms).
    "metadata.max.age.ms": "900000",
    # A cluster of one node that comes back from a freeze tells for a moment that it has no broker,
    # and the client lets the only one go that it knew: it begins anew after this long, not after
    # 5 minutes, in which it gets nothing (ms).
    "metadata.recovery.rebootstrap.trigger.ms": "5000",
    # Requests are small and wait for each other: do not hold back any.
    "socket.nagle.disable": "true",
}
_DEFAULTS_FOR_PRODUCERS = {
    "message.max.bytes": str(KAFKA_MAX_LETTER_BYTES),
    # How long a message waits for company (ms), unless somebody waits for it: see `publisher`. With
    # less a batch of 1,024, which takes 6 ms to hand over, goes in dozens of requests.
    "linger.ms": "5",
    # A request above 512 KiB is "humongous" for the broker's collector in heaps of up to 2 GiB
    # (Kafka's scripts give it 1): each few of them cost a cycle that marks the whole heap.
    "batch.size": "500000",
    # Photographs are compressed already; `lz4` for small images costs 5 % of the CPU time of all.
    "compression.type": "none",
    # As Java's producers choose, so that a key has one partition whoever publishes it; messages
    # without a key are spread at random.
    "partitioner": "murmur2_random",
    # Bounds what waits during an outage (KiB): beyond it `publish` blocks.
    "queue.buffering.max.kbytes": str(128 * 1024),
    "queue.buffering.max.messages": "200000",
    # A topic that another process deleted is an error after this long, not after 30 s (ms).
    "topic.metadata.propagation.max.ms": "5000",
}
_DEFAULTS_FOR_CONSUMERS = {
    # What one request brings of a partition, as it is on the wire: a thousand times as much when
    # unpacked, if a foreign producer wants it so. A batch that is larger comes alone.
    "fetch.message.max.bytes": str(1024 * 1024),
    "message.max.bytes": str(KAFKA_MAX_LETTER_BYTES),
    # A record that was damaged on a disk is noticed, not delivered.
    "check.crcs": "true",
    # A dead consumer's partitions are with others after 6 s (ms); the broker's lower limit.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1500",
    # Acks that a killed process may have been about to commit come again: keep them few (ms).
    "auto.commit.interval.ms": "200",
    # What is fetched ahead (KiB): enough for full speed, and bounded for many subscriptions.
    "queued.max.messages.kbytes": str(32 * 1024),
    # The broker answers a fetch as soon as there is anything; without this long a wait it asks
    # in vain more often (ms).
    "fetch.wait.max.ms": "500",
    # After a fetch of a partition failed, or with a full queue: ask again soon (ms).
    "fetch.error.backoff.ms": "100",
    "fetch.queue.backoff.ms": "50",
}

_SECRET_NAME = re.compile(
    r"password|secret|token|oauth|jaas|sasl\.username|\.key|ssl.*pem", re.IGNORECASE
)


# What the library misses is named by it; values it repeats, too, which are not shown.
_PROPERTY = re.compile(r"(?<![\w.])s(?:asl|sl)(?:\.[a-z]+)+(?![\w.])")


class KafkaSettings:
    """The properties of the three kinds of clients. Values never show in its repr."""

    def __init__(
        self,
        default: Mapping[str, str],
        producer: Mapping[str, str],
        consumer: Mapping[str, str],
    ) -> None:
        """Check the properties.

        Args:
            default: librdkafka properties of all clients; `bootstrap.servers` must be there.
            producer: those of producers, which win over `default`.
            consumer: those of consumers, which win over `default`.

        Raises:
            ConfigurationError: no servers, or a value that would break a promise.
        """
        if not default.get("bootstrap.servers"):
            raise ConfigurationError(
                "kafka_config.ini [default] bootstrap.servers is missing: fill it in, or set "
                "KAFKA_BOOTSTRAP_SERVERS"
            )
        self.servers: str = plain_servers(default["bootstrap.servers"])
        self._default = {**default, "bootstrap.servers": self.servers}
        self._producer = dict(producer)
        self._consumer = dict(consumer)
        check_properties("default", self._default)
        check_properties("producer", self._producer)
        check_properties("consumer", self._consumer)
        _refuse_changes(self._default, {**_FIXED_FOR_PRODUCERS, **_FIXED_FOR_CONSUMERS, **_FIXED})
        _refuse_changes(self._producer, {**_FIXED_FOR_PRODUCERS, **_FIXED})
        _refuse_changes(self._consumer, {**_FIXED_FOR_CONSUMERS, **_FIXED})
        self._tell_unchecked()

    def _tell_unchecked(self) -> None:
        for name, off in _UNCHECKED.items():
            for properties in (self._default, self._producer, self._consumer):
                if properties.get(name, "").lower() == off:
                    logger.warning(
                        "kafka_config.ini %s = %s: whoever is on the way may pretend to be the "
                        "broker, and read passwords and messages; only for a try",
                        name,
                        off,
                    )
                    break

    def for_admin(self) -> dict[str, str]:
        """Properties of an admin client."""
        return {**_DEFAULTS, **self._default, **_FIXED}

    def for_producer(self) -> dict[str, str]:
        """Properties of a producer."""
        return {
            **_DEFAULTS,
            **_DEFAULTS_FOR_PRODUCERS,
            **self._default,
            **self._producer,
            **_FIXED,
            **_FIXED_FOR_PRODUCERS,
        }

    def for_consumer(self, group: str) -> dict[str, str]:
        """Properties of a consumer in `group`."""
        return {
            **_DEFAULTS,
            **_DEFAULTS_FOR_CONSUMERS,
            **self._default,
            **self._consumer,
            **_FIXED,
            **_FIXED_FOR_CONSUMERS,
            **_ALWAYS_FOR_CONSUMERS,
            "group.id": group,
        }

    @property
    def connecting(self) -> Mapping[str, str]:
        """The properties of all clients, with which they connect."""
        return self._default

    @property
    def principal(self) -> str:
        """Who the cluster takes the clients for: what rights are granted to."""
        get = self._default.get
        protocol = get("security.protocol", "").upper()
        if protocol.startswith("SASL"):
            by_name = get("sasl.mechanisms", "").upper() in NAMED_MECHANISMS
            return f"User:{get('sasl.username')}" if by_name else "the principal of the login"
        if protocol == "SSL" and "ssl.certificate.location" in self._default:
            return f"the principal of the certificate {get('ssl.certificate.location')}"
        return "User:ANONYMOUS"

    @property
    def session_seconds(self) -> float:
        """How long a silent consumer stays in its group (seconds)."""
        properties = self.for_consumer("")
        return int(properties["session.timeout.ms"]) / 1000

    def without_secrets(self, text: str) -> str:
        """Blank out the values of secret properties in `text`."""
        for name, value in (
            *self._default.items(),
            *self._producer.items(),
            *self._consumer.items(),
        ):
            if value and _SECRET_NAME.search(name):
                text = text.replace(value, "***")
        return text

    def refused(self, exception: KafkaException) -> ConfigurationError:
        """Say which property the client library would not take."""
        text = error_of(exception).str()
        names = sorted(self._named_in(text))
        named = [place(name) for name in names]
        which = " or ".join(named) if named else "kafka_config.ini, sasl.* or ssl.* of it"
        without = sorted({*_PROPERTY.findall(text)} - {*names})
        if without:
            return ConfigurationError(
                f"{which}: the client library does not take it without {' and '.join(without)}: "
                f"set that too; {LIST_OF_PROPERTIES}"
            )
        if named and all(name.endswith(FILE_SUFFIX) for name in names):
            return ConfigurationError(
                f"{which}: the client library cannot use the file: check that it is what the "
                "property's name says, in PEM or PKCS#12, and ssl.key.password or "
                "ssl.keystore.password"
            )
        return ConfigurationError(
            f"{which}: the client library does not take it: mend or remove it; "
            f"{LIST_OF_PROPERTIES} lists what it takes"
        )

    def _named_in(self, text: str) -> Iterator[str]:
        """Yield the properties that were set and that a text of the library is about."""
        for name, value in {**self._default, **self._producer, **self._consumer}.items():
            said = [name, *(second for second, first in SECOND_NAMES.items() if first == name)]
            if name == "sasl.mechanisms":  # where it is not built in, the library names the value
                said.append(value)
            if any(re.search(rf"(?<![\w.]){re.escape(each)}(?![\w.])", text) for each in said):
                yield name

    def __repr__(self) -> str:
        return f"KafkaSettings(servers={self.servers!r})"


def _refuse_changes(properties: Mapping[str, str], fixed: Mapping[str, str]) -> None:
    for name, value in properties.items():
        if name in fixed and value.lower() != fixed[name]:
            raise ConfigurationError(
                f"kafka_config.ini: {name} must stay {fixed[name]!r}, what the handler promises "
                "rests on it: remove the line"
            )
        if name in _REFUSED:
            raise ConfigurationError(
                f"kafka_config.ini: {name} cannot be set, {_REFUSED[name]}: remove the line"
            )
        if name == "auto.commit.interval.ms" and value.strip() == "0":
            raise ConfigurationError(
                "kafka_config.ini: auto.commit.interval.ms must not be 0, acks would never be "
                "committed: remove the line"
            )

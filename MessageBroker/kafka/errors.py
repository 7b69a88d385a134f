"""Which of our errors a Kafka error code is, and what to tell the person who reads it.

The text of an error of the client is never repeated: it is made of what brokers, proxies and the
configuration hold. What its code means is said instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    MessageTooLargeError,
    SubscriptionNotFoundError,
    TopicNotFoundError,
)

# Who we are ...
REFUSED_LOGINS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
# ... or what we may do, by the kind of what it is refused for.
REFUSED_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
REFUSALS = REFUSED_LOGINS | frozenset(REFUSED_RIGHTS)

# A topic, or one of its partitions, is not there.
MISSING_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)

# Codes that waiting cures; so does whatever librdkafka itself calls retriable.
OUTAGES = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._WAIT_CACHE,
        KafkaError._IN_PROGRESS,
        KafkaError._PREV_IN_PROGRESS,
        # A request was given to a connection that the client just lets go of.
        KafkaError._DESTROY,
        KafkaError._DESTROY_BROKER,
        KafkaError._ISR_INSUFF,
        KafkaError._NOENT,  # no partition of those that were asked for has a leader
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)

_CLASSES: dict[int, type[BrokerError]] = {
    **dict.fromkeys(REFUSALS, AuthenticationError),
    **dict.fromkeys(OUTAGES, BrokerUnavailableError),
    **dict.fromkeys(MISSING_TOPIC, TopicNotFoundError),
    KafkaError.GROUP_ID_NOT_FOUND: SubscriptionNotFoundError,
    KafkaError._UNKNOWN_GROUP: SubscriptionNotFoundError,
    KafkaError.MSG_SIZE_TOO_LARGE: MessageTooLargeError,
    KafkaError.RECORD_LIST_TOO_LARGE: MessageTooLargeError,
    KafkaError.INVALID_MSG_SIZE: MessageTooLargeError,
    KafkaError._INVALID_ARG: ConfigurationError,
    KafkaError._UNSUPPORTED_FEATURE: ConfigurationError,
    KafkaError.TOPIC_EXCEPTION: ConfigurationError,
    KafkaError.INVALID_PARTITIONS: ConfigurationError,
    KafkaError.INVALID_REPLICATION_FACTOR: ConfigurationError,
    KafkaError.INVALID_CONFIG: ConfigurationError,
    KafkaError.INVALID_GROUP_ID: ConfigurationError,
    KafkaError.INVALID_SESSION_TIMEOUT: ConfigurationError,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: ConfigurationError,
    KafkaError.POLICY_VIOLATION: ConfigurationError,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: ConfigurationError,
    KafkaError.UNSUPPORTED_VERSION: ConfigurationError,
    KafkaError.INVALID_RECORD: ConfigurationError,
    KafkaError.INVALID_TIMESTAMP: ConfigurationError,
}

_CLOCKS = (
    "set this machine's clock right, or the broker's: they are further apart than the topic "
    "allows (message.timestamp.before.max.ms and message.timestamp.after.max.ms)"
)
_WHAT_TO_DO: dict[int, str] = {
    KafkaError._SSL: "check ssl.* in kafka_config.ini, and what stands between here and the broker",
    KafkaError._AUTHENTICATION: (
        "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (on Confluent Cloud: the API key and "
        "its secret, which may have been deleted)"
    ),
    KafkaError.INVALID_TIMESTAMP: _CLOCKS,
    # Of several records in one batch the client says no more than this, whatever is wrong.
    KafkaError.INVALID_RECORD: (
        "either it has no key, and the topic has cleanup.policy=compact: set cleanup.policy=delete "
        f"on it, or publish to another topic; or {_CLOCKS}"
    ),
    KafkaError.MSG_SIZE_TOO_LARGE: (
        "raise max.message.bytes of the topic to 8388608 (kafka-configs.sh --alter --entity-type "
        "topics ... --add-config max.message.bytes=8388608); topics that this project creates "
        "have it"
    ),
    KafkaError.INVALID_REPLICATION_FACTOR: "change kafka_config.ini [topic] replication_factor",
    KafkaError.INVALID_PARTITIONS: "change kafka_config.ini [topic] num_partitions",
    KafkaError.TOPIC_EXCEPTION: (
        "choose another name: Kafka takes '.' and '_' for the same letter, and a topic of the "
        "other spelling may exist"
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "the broker allows no session.timeout.ms so low (group.min.session.timeout.ms)"
    ),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "another program consumes in this group with another assignment strategy: choose another "
        "subscription id, or set its partition.assignment.strategy to cooperative-sticky"
    ),
    KafkaError.POLICY_VIOLATION: "ask the cluster's administrator, or change the [topic] settings",
}
# Where the client's own words say less.
_MEANINGS = dict.fromkeys(REFUSED_LOGINS, "the broker does not take user or password")
_WHAT_TO_DO[KafkaError.SASL_AUTHENTICATION_FAILED] = _WHAT_TO_DO[KafkaError._AUTHENTICATION]
_WHAT_TO_DO[KafkaError.RECORD_LIST_TOO_LARGE] = _WHAT_TO_DO[KafkaError.MSG_SIZE_TOO_LARGE]
_WHAT_TO_DO[KafkaError.INVALID_MSG_SIZE] = _WHAT_TO_DO[KafkaError.MSG_SIZE_TOO_LARGE]


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error that an exception of the client carries."""
    error: KafkaError = exception.args[0]
    return error


def is_outage(error: KafkaError) -> bool:
    """Tell whether waiting may cure `error`."""
    return error.code() in OUTAGES or error.retriable()


@dataclass(frozen=True)
class Right:
    """A right that a request needs, as `kafka-acls.sh` grants it.

    Attributes:
        operation: `READ`, `WRITE`, `CREATE`, `DELETE` or `DESCRIBE`.
        kind: `topic` or `group`.
        name: of the topic or group.
        also: what includes it, or replaces it.
    """

    operation: str
    kind: str
    name: str
    also: str = ""

    def __str__(self) -> str:
        return f"{self.operation} on the {self.kind} {self.name!r}{self.also and f' ({self.also})'}"


def look_up(kind: str, name: str) -> Right:
    """Return the right to look a topic or group up."""
    also = "READ, WRITE and DELETE include it" if kind == "topic" else "READ includes it"
    return Right("DESCRIBE", kind, name, also)


def translate(
    error: KafkaError,
    tried: str,
    *,
    principal: str = "",
    right: Right | None = None,
    away: str = "",
    otherwise: type[BrokerError] = BrokerError,
) -> BrokerError:
    """Make our error of one of Kafka's, chosen by its code.

    Args:
        error: what the client or the broker said.
        tried: what was tried and where, as the beginning of a sentence.
        principal: who tried it.
        right: the right that it needs, where that is known.
        away: what to do where a broker is away.
        otherwise: the class for codes that have none of their own.
    """
    code = error.code()
    kind = _CLASSES.get(code)
    if kind is None:
        kind = BrokerUnavailableError if error.retriable() else otherwise
    if code in REFUSED_RIGHTS:
        needed = right or f"a right to the {REFUSED_RIGHTS[code]}"
        return kind(
            f"{tried}: {principal} has no right {needed}: grant it; docs/kafka.md lists the rights "
            "of each script and tool"
        )
    said = _WHAT_TO_DO.get(code) or (away if kind is BrokerUnavailableError else "")
    return kind(f"{tried}: {meaning_of(error)}" + (f": {said}" if said else ""))


def meaning_of(error: KafkaError) -> str:
    """Say what an error is by its code alone."""
    meaning = _MEANINGS.get(error.code()) or KafkaError(error.code()).str()
    return f"{meaning} ({error.name()})"

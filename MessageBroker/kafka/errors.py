"""Which of our errors a Kafka error code is, and what to tell the person who reads it."""

from __future__ import annotations

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

# Who we are, or what we may do.
REFUSALS = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

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
}

_START_ONE = (
    "start one with `make kafka`, or set KAFKA_BOOTSTRAP_SERVERS or kafka_config.ini [default] "
    "bootstrap.servers"
)

_WHAT_TO_DO: dict[int, str] = {
    KafkaError._SSL: "security.protocol and the broker's listener must both use TLS",
    KafkaError._AUTHENTICATION: (
        "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (on Confluent Cloud: the API key and "
        "its secret, which may have been deleted) and sasl.mechanisms"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "give the user rights to the topic; docs/kafka.md lists the ACLs of each script"
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "give the user READ on the consumer group; docs/kafka.md lists the ACLs of each script"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "give the user CREATE on the topic or the cluster, or create the topics with another "
        "user; docs/kafka.md lists the ACLs of each script"
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


def translate(
    error: KafkaError,
    tried: str,
    detail: str = "",
    otherwise: type[BrokerError] = BrokerError,
) -> BrokerError:
    """Make our error of one of Kafka's, chosen by its code.

    Args:
        error: what the client or the broker said.
        tried: what was tried and where, as the beginning of a sentence.
        detail: more of what is known of the cause.
        otherwise: the class for codes that have none of their own.
    """
    code = error.code()
    kind = _CLASSES.get(code)
    if kind is None:
        kind = BrokerUnavailableError if error.retriable() else otherwise
    advice = _WHAT_TO_DO.get(code, "")
    if kind is BrokerUnavailableError:
        advice = f"{advice}; {_START_ONE}" if advice else _START_ONE
    why = detail or error.str()
    return kind(f"{tried}: {why}" + (f": {advice}" if advice else ""))

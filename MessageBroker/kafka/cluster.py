"""A Kafka cluster, as one admin client reaches it.

The client is made anew where it hears of no broker any more. Whoever has asked it holds on to it
until the answer is there: one that goes answers nobody, and a future of its would never end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    BrokerMetadata,
    ClusterMetadata,
    ConfigResource,
    OffsetSpec,
)

from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.diagnosis import error_of_finding
from MessageBroker.kafka.errors import Right, error_of, is_outage, look_up
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.hearing import let_go
from MessageBroker.kafka.listener_probe import MAX_ADDRESSES, look_at, look_at_each
from MessageBroker.kafka.settings import KafkaSettings

# All start-up errors come within 10 s; this leaves some for the client (s).
REQUEST_TIMEOUT_SECONDS = 9.0
# A look-up is asked again after this long, so that refused credentials are noticed at once (s).
LOOK_UP_SLICE_SECONDS = 0.5
# A client that nobody answered for so long, though asked, is made anew: it may hear of no broker
# any more (`hearing.Hearing`), and there is none to compare it with (s).
DEAF_SECONDS = 15.0
# The brokers that lead partitions are asked again after this long (s).
LEADER_SLICE_SECONDS = 1.0
# How soon to look again whether a topic's partitions have their leaders (s).
LEADER_POLL_SECONDS = 0.05


class Cluster:
    """Asks the brokers, and says in our terms why they do not answer. Any thread may call it.

    Attributes:
        where: the cluster, for errors.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Prepare; the client connects when it is first asked.

        Args:
            settings: the clients' properties.
        """
        self.where = f"Kafka at {settings.servers}"
        self._settings = settings
        self._events = ClientEvents(settings)
        self._lock = threading.Lock()
        self._client: AdminClient | None = None
        self._last_answer = 0.0  # or when the client was made
        self._brokers: Sequence[BrokerMetadata] = ()  # as the cluster last told them
        self._worked = False  # a broker at such an address has answered

    @contextlib.contextmanager
    def asking(self) -> Iterator[AdminClient]:
        """Hold the client until what it is asked in the block is answered.

        A `KafkaException` that leaves the block is the answer, or says that there is none.
        """
        client = self._connected()
        try:
            yield client
        except KafkaException as exception:
            client.poll(0)  # what it heard in the background says why
            if is_outage(error_of(exception)):
                self._note_silence(client)
            raise
        self._note_answer()
        self._worked = True

    def explain(self, error: KafkaError, tried: str, right: Right) -> BrokerError:
        """Make an error of ours of what was answered.

        Args:
            error: what it was.
            tried: what was asked for.
            right: what that needs.
        """
        return self._events.explain(error, f"{self.where}: {tried}", right)

    def serve(self) -> None:
        """Let the client's callbacks run: to be called now and then while nothing is asked."""
        client = self._client
        if client is not None:
            client.poll(0)

    def close(self) -> None:
        """Let the client go."""
        with self._lock:
            self._client = None

    def _connected(self) -> AdminClient:
        with self._lock:
            if self._client is None:
                self._client = self._events.open(AdminClient, self._settings.for_admin())
                self._last_answer = time.monotonic()
            return self._client

    def _note_answer(self) -> None:
        self._last_answer = time.monotonic()
        self._events.answered()

    def _note_silence(self, asked: AdminClient) -> None:
        """Begin with another client where this one was asked in vain for long."""
        with self._lock:
            if self._client is not asked or time.monotonic() - self._last_answer <= DEAF_SECONDS:
                return
            deaf, self._client = [asked], None
        let_go(deaf.clear)  # it goes with the last one that holds it

    # ------------------------------------------------------------------ topics' settings

    def setting_of_topics(
        self, name: str, topics: Iterable[str], timeout: float = REQUEST_TIMEOUT_SECONDS
    ) -> dict[str, str]:
        """Return what a setting of topics is, where it may be looked at (DESCRIBE_CONFIGS).

        Raises:
            BrokerUnavailableError: nobody answers within `timeout` seconds.
        """
        asked = {each: ConfigResource(ConfigResource.Type.TOPIC, each) for each in topics}
        found: dict[str, str] = {}
        topic = ""
        try:
            with self.asking() as client:
                answers = client.describe_configs(list(asked.values()), request_timeout=timeout)
                for topic, resource in asked.items():
                    found[topic] = answers[resource].result()[name].value
        except KafkaException as exception:
            error = error_of(exception)
            if is_outage(error):
                tried = f"how topic {topic!r} is kept"
                raise self.explain(error, tried, look_up("topic", topic)) from None
        return found

    # ------------------------------------------------------------------ who leads what

    def metadata(
        self, topic: str | None, timeout: float = REQUEST_TIMEOUT_SECONDS
    ) -> ClusterMetadata:
        """Ask for one topic, or for all.

        Raises:
            BrokerError: there is no answer within `timeout` seconds, or a refusal.
        """
        deadline = time.monotonic() + timeout
        client = self._connected()
        looked = False
        while True:
            wait = max(0.01, min(LOOK_UP_SLICE_SECONDS, deadline - time.monotonic()))
            try:
                metadata = (
                    client.list_topics(topic, wait) if topic else client.list_topics(timeout=wait)
                )
            except KafkaException as exception:
                client.poll(0)
                refusal = self._events.refusal(self.where)
                late = time.monotonic() >= deadline
                if late:
                    self._note_silence(client)
                if late or refusal is not None or not looked:
                    self._look_for_faults(late=late)
                    looked = True
                if refusal is not None:
                    raise refusal from None
                if late or not is_outage(error_of(exception)):
                    raise self._events.explain(error_of(exception), self.where) from None
            else:
                self._note_answer()
                self._brokers = list(metadata.brokers.values())
                return metadata

    def ping(self, timeout: float, topics: Sequence[str] = ()) -> None:
        """Raise unless the cluster answers, takes the credentials, and so do those that lead.

        Args:
            timeout: seconds.
            topics: those of them that are there, and may be looked at, are asked for.
        """
        deadline = time.monotonic() + timeout
        led: dict[int, TopicPartition] = {}
        # One name, there or not: all topics of a large cluster would be megabytes.
        for topic in topics or ("ping",):
            left = max(0.1, deadline - time.monotonic())
            found = self.metadata(topic, left).topics.get(topic)
            for number, partition in found.partitions.items() if found else ():
                if partition.leader >= 0:
                    led[partition.leader] = TopicPartition(topic, number)
        if topics and led:
            self._ask_the_leaders(led, deadline)

    def _ask_the_leaders(self, led: Mapping[int, TopicPartition], deadline: float) -> None:
        """Ask each broker for an offset in a partition that it leads."""
        looked = False
        client = self._connected()
        while True:
            left = max(0.1, min(LEADER_SLICE_SECONDS, deadline - time.monotonic()))
            request = {each: OffsetSpec.latest() for each in led.values()}
            answers = client.list_offsets(request, request_timeout=left)
            failed = [each for each in map(_failure_of, answers.values()) if each is not None]
            away = [error for error in failed if is_outage(error)]
            if not away:  # a right that is missing is an answer, too
                self._worked = True
                return
            late = time.monotonic() >= deadline
            if late or not looked:
                self._look_for_faults(late=late)
                looked = True
            if late:
                raise self._events.explain(away[0], f"{self.where}: the leaders of its partitions")
            time.sleep(LEADER_POLL_SECONDS)

    def coordinator_away(self, error: KafkaError, group: str) -> BrokerError:
        """Return the error for a group whose coordinator does not answer."""
        try:
            self._look_for_faults(late=True)
        except BrokerError as found:
            return found
        return self._events.explain(
            error, f"{self.where}: the coordinator of the group {group!r} does not answer"
        )

    def _look_for_faults(self, *, late: bool) -> None:
        """Look why nobody answers; raise what is wrong, and what may pass only if it is late.

        Settings that have worked once are right: whatever it is then, it is waited for.
        """
        properties = self._settings.connecting
        finding = look_at(self._settings.servers, properties)
        told = finding is None
        if told:
            brokers = [(each.host, each.port) for each in self._brokers[:MAX_ADDRESSES]]
            findings = look_at_each(brokers, properties)
            finding = next((each for each in findings if each is not None), None)
        if finding is None or not (late or (not finding.fault.may_pass and not self._worked)):
            return
        tls = properties.get("security.protocol", "").lower().endswith("ssl")
        error = error_of_finding(finding, self._settings.servers, tls=tls, told=told)
        raise (BrokerUnavailableError(str(error)) if self._worked else error) from None


def _failure_of(answer: Future[Any]) -> KafkaError | None:
    try:
        answer.result()
    except KafkaException as exception:
        return error_of(exception)
    return None

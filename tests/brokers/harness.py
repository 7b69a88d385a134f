"""The three brokers as the tests see them: where they are, and how to take them away.

A test asks for the fixture `under_test` (in `tests/conftest.py`) and gets a `BrokerUnderTest`: the
embedded broker, a real Apache Kafka, or the real Pub/Sub emulator. It does not know which.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from MessageBroker.conformance import BrokerUnderTest
from MessageBroker.core.broker import BrokerCore

if TYPE_CHECKING:
    from tests.brokers.kafka_server import KafkaCluster
    from tests.brokers.pubsub_emulator import PubSubEmulator
    from tests.brokers.tcp_proxy import TcpProxy

# Time for a Pub/Sub consumer without keys to end its streams after its first message.
TURN_SECONDS = 2.0
# What a person may have exported: no test shall reach a broker that is not of the tests.
FOREIGN_VARIABLES = (
    "MESSAGE_BROKER",
    "MESSAGE_BROKER_CONFIG_DIR",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_USERNAME_FILE",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_SSL_CA_LOCATION",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "PUBSUB_EMULATOR_HOST",
    "LOCAL_BROKER_PATH",
)


class LocalUnderTest(BrokerUnderTest):
    """The embedded broker in a folder of its own."""

    name = "local"
    inattention_seconds = 10.0
    foreign_variables = FOREIGN_VARIABLES

    def start(self) -> None:
        self.folder = self.config_dir / "broker"
        self.write_ini("local_config.ini", f"[default]\npath = {self.folder}\n")

    def stop(self) -> None:
        super().stop()  # nothing runs: the folder is the broker

    @property
    def environment(self) -> dict[str, str]:
        return {"LOCAL_BROKER_PATH": str(self.folder)}

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Somebody else holds all files locked, as a backup or a full disk would."""
        with contextlib.ExitStack() as locks:
            for path in self.folder.glob("*.sqlite"):
                other = sqlite3.connect(path, isolation_level=None, timeout=10)
                locks.callback(other.close)
                other.execute("BEGIN EXCLUSIVE")
            yield

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """A process was stopped inside, with all files in its hands."""
        with contextlib.ExitStack() as locks:
            for path in self.folder.glob("*.lock"):
                fcntl.flock(locks.enter_context(path.open("ab")), fcntl.LOCK_EX)
            yield

    def handler_class(self) -> type[BrokerCore]:
        from MessageBroker.local_handler import LocalHandler

        return LocalHandler


class KafkaUnderTest(BrokerUnderTest):
    """A real Apache Kafka, of one node unless a subclass wants more."""

    name = "kafka"
    nodes = 1
    partitions = 3
    # max.poll.interval.ms below, instead of the five minutes that are usual.
    inattention_seconds = 7.0
    foreign_variables = FOREIGN_VARIABLES
    _cluster: KafkaCluster

    def start(self) -> None:
        from tests.brokers.kafka_jars import find_or_skip
        from tests.brokers.kafka_server import KafkaCluster

        find_or_skip()
        self._cluster = KafkaCluster(self.nodes)
        self._cluster.start()
        self.write_ini(
            "kafka_config.ini",
            f"[default]\nbootstrap.servers = {self._cluster.bootstrap_servers}\n"
            "[consumer]\nmax.poll.interval.ms = 7000\n"
            f"[topic]\nnum_partitions = {self.partitions}\n",
        )

    def stop(self) -> None:
        if hasattr(self, "_cluster"):
            self._cluster.stop()
        super().stop()

    @property
    def environment(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self._cluster.bootstrap_servers}

    @property
    def pids(self) -> list[int]:
        """The processes of its nodes."""
        return self._cluster.pids

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self._cluster.pause()
        try:
            yield
        finally:
            self._cluster.resume()

    def restart(self) -> None:
        """Replace the process, as after a crash of its host."""
        self._cluster.kill()
        self._cluster.restart()

    def handler_class(self) -> type[BrokerCore]:
        from MessageBroker.kafka_handler import KafkaHandler

        return KafkaHandler


class PubSubUnderTest(BrokerUnderTest):
    """The real Pub/Sub emulator behind a proxy.

    Its data do not outlive its process. So a restart or an outage is one of the proxy, which breaks
    all connections and refuses new ones.
    """

    name = "pubsub"
    inattention_seconds = 12.0
    foreign_variables = FOREIGN_VARIABLES
    counts_backlog = False  # Pub/Sub tells it to Cloud Monitoring only, minutes later
    _emulator: PubSubEmulator
    _proxy: TcpProxy

    def start(self) -> None:
        from tests.brokers.pubsub_emulator import PubSubEmulator, find_or_skip
        from tests.brokers.tcp_proxy import TcpProxy

        find_or_skip()
        self._emulator = PubSubEmulator()
        self._emulator.start()
        self._proxy = TcpProxy(self._emulator.port)
        project = self._emulator.environment["GOOGLE_CLOUD_PROJECT"]
        self.write_ini("pubsub_config.ini", f"[default]\nproject_id = {project}\n")

    def stop(self) -> None:
        if hasattr(self, "_proxy"):
            self._proxy.cut()
        if hasattr(self, "_emulator"):
            self._emulator.stop()
        super().stop()

    @property
    def environment(self) -> dict[str, str]:
        return {**self._emulator.environment, "PUBSUB_EMULATOR_HOST": self._proxy.host}

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        # A stream that broke while it was being half-closed, and what it brought was un-acked, has
        # been seen to keep all messages of its subscription from pulls for more than a minute: the
        # emulator notices no broken connection. Consumers without keys have pulls by then.
        time.sleep(TURN_SECONDS)
        self._proxy.cut()
        try:
            yield
        finally:
            self._proxy.mend()

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """The emulator is frozen inside: it takes connections, and answers nothing."""
        self._emulator.pause()
        try:
            yield
        finally:
            self._emulator.resume()

    def handler_class(self) -> type[BrokerCore]:
        from MessageBroker.google_pubsub_handler import PubSubHandler

        return PubSubHandler


BROKERS: dict[str, type[BrokerUnderTest]] = {
    each.name: each for each in (LocalUnderTest, KafkaUnderTest, PubSubUnderTest)
}


def clean_environment() -> dict[str, str]:
    """This process's environment without any broker in it."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}

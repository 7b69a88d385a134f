"""A real Apache Kafka of one or more nodes, on this machine, without Docker.

Each node is a broker and a controller (KRaft) of its own process, so that a test can kill, stop or
restart just one.

    with KafkaCluster(nodes=3) as cluster:
        connect(cluster.bootstrap_servers)
        cluster.kill(1)

`python -m tests.brokers.kafka_server` runs one for a person, at 127.0.0.1:9092.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from DurableText.program.closing import ClosedAtExit
from tests.brokers.class_archive import make_once
from tests.brokers.kafka_jars import (
    BROKERS_FOLDER,
    CLASS_ARCHIVE,
    KAFKA_VERSION,
    KafkaMissingError,
    fetch_jars,
    java_command,
)
from tests.servers import free_port

# A JVM on a busy machine with two cores; 3 to 7 s on an idle one.
START_TIMEOUT_SECONDS = 90.0
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Listener:
    """A port of a node.

    Attributes:
        protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        port: where it listens.
        advertised_port: where clients are told that it does; None for the same.
    """

    protocol: str
    port: int
    advertised_port: int | None = None


class _Node:
    """One process: broker and controller."""

    def __init__(self, node_id: int, folder: Path, port: int | None) -> None:
        self.node_id = node_id
        self.folder = folder
        self.port = port or free_port()
        self.controller_port = free_port()
        self.sasl_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.jvm_options: list[str] = []

    @property
    def properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def is_formatted(self) -> bool:
        return (self.folder / "data" / "meta.properties").exists()

    def java(self, main: str, *arguments: str, heap: str = "512m") -> list[str]:
        return java_command(main, *arguments, heap=heap)

    def start(self) -> None:
        java, *arguments = self.java("kafka.Kafka", str(self.properties_file))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [java, *self.jvm_options, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us: we stop the nodes.
                start_new_session=True,
            )

    def send(self, signal_number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal_number)

    def stop(self, signal_number: int) -> None:
        if self.process is None:
            return
        self.send(signal_number)
        self.send(signal.SIGCONT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class KafkaCluster(ClosedAtExit):
    """Nodes 0 to `nodes - 1`. A context manager: entering starts, leaving stops.

    Attributes:
        bootstrap_servers: addresses without authentication; a super user where `users` are given.
        sasl_bootstrap_servers: addresses for `users` (SASL_PLAINTEXT, PLAIN).
    """

    def __init__(
        self,
        nodes: int = 1,
        folder: Path | None = None,
        extra_properties: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """Plan a cluster.

        Args:
            nodes: how many.
            folder: where the data lie; they survive `stop`. None: a temporary one.
            extra_properties: broker properties that win over those here.
            users: names to passwords; each has only the rights that access control lists give.
            port: of the first node; None for a free one.
        """
        fetch_jars()
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="kafka-data-"))
        self._extra_properties = dict(extra_properties or {})
        self._users = dict(users or {})
        self._nodes = [
            _Node(i, self._folder / f"node-{i}", port if i == 0 else None) for i in range(nodes)
        ]
        # Kafka's own form of a UUID; always the same for a folder.
        identity = uuid.uuid5(uuid.NAMESPACE_URL, self._folder.resolve().as_uri())
        encoded = base64.urlsafe_b64encode(identity.bytes).decode().rstrip("=")
        self._cluster_id = encoded.replace("-", "_")  # "-" at its start would be an option
        atexit.register(self.stop)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes)

    @property
    def sasl_bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{node.sasl_port}" for node in self._nodes)

    @property
    def pids(self) -> list[int]:
        """The processes of the nodes that were started."""
        return [node.process.pid for node in self._nodes if node.process is not None]

    def log_of(self, topic: str, partition: int = 0) -> Path:
        """Where the first node keeps the first records of a partition."""
        return self._nodes[0].folder / "data" / f"{topic}-{partition}" / f"{0:020}.log"

    def start(self) -> KafkaCluster:
        """Start all nodes; return when the cluster answers."""
        make_once(CLASS_ARCHIVE, _record_classes)
        for node in self._nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            properties = {**self._properties(node), **self._extra_properties}
            lines = [f"{name}={value}\n" for name, value in properties.items()]
            node.properties_file.write_text("".join(lines), encoding="utf-8")
        self._format()
        for node in self._nodes:
            node.start()
        self._wait_until_up(self._nodes)
        return self

    def stop(self) -> None:
        """End all nodes; a temporary folder is removed."""
        for node in self._nodes:
            # Data that nobody will read again need no clean shutdown, which takes seconds.
            node.stop(signal.SIGKILL if self._temporary else signal.SIGTERM)
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def kill(self, node: int = 0) -> None:
        """End a node with SIGKILL."""
        self._nodes[node].stop(signal.SIGKILL)

    def pause(self, node: int = 0) -> None:
        """Freeze a node with SIGSTOP: connections stay open, nothing answers."""
        self._nodes[node].send(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        """Let a frozen node go on."""
        self._nodes[node].send(signal.SIGCONT)

    def restart(self, node: int = 0) -> None:
        """Start a node again over the same data, ending it first; return when it answers."""
        self._nodes[node].stop(signal.SIGTERM)
        self._nodes[node].start()
        self._wait_until_up([self._nodes[node]])

    def __enter__(self) -> KafkaCluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def close(self) -> None:
        """See `stop`."""
        self.stop()

    def _properties(self, node: _Node) -> dict[str, str]:
        replicas = str(min(3, len(self._nodes)))
        majority = str(max(1, min(3, len(self._nodes)) - 1))
        listeners = {
            "CONTROLLER": Listener("PLAINTEXT", node.controller_port),
            "PLAIN": Listener("PLAINTEXT", node.port),
            **self._more_listeners(node),
        }
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.node_id),
            "controller.quorum.voters": ",".join(
                f"{each.node_id}@{HOST}:{each.controller_port}" for each in self._nodes
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": ",".join(
                f"{name}://{HOST}:{each.port}" for name, each in listeners.items()
            ),
            "advertised.listeners": ",".join(
                f"{name}://{HOST}:{each.advertised_port or each.port}"
                for name, each in listeners.items()
                if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{each.protocol}" for name, each in listeners.items()
            ),
            "log.dirs": str(node.folder / "data"),
            "num.partitions": "1",
            "default.replication.factor": replicas,
            "min.insync.replicas": majority,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": majority,
            "transaction.state.log.num.partitions": "3",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": majority,
            "share.coordinator.state.topic.num.partitions": "3",
            "group.initial.rebalance.delay.ms": "0",
            # A node that was killed is missed, and may come back, after 3 s instead of 9.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "controlled.shutdown.enable": "false",
            **self._security_properties(),
        }

    def _more_listeners(self, node: _Node) -> dict[str, Listener]:
        """Return the listeners beside the one without authentication."""
        return {"SASL": Listener("SASL_PLAINTEXT", node.sasl_port)} if self._users else {}

    def _format_options(self) -> list[str]:
        """Return what is written into the cluster's metadata at its birth."""
        return []

    def _security_properties(self) -> dict[str, str]:
        if not self._users:
            return {}
        entries = " ".join(f'user_{name}="{secret}"' for name, secret in self._users.items())
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return {
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f"{login} required {entries};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Whoever comes without authentication: the nodes, and the tests' own set-up.
            "super.users": "User:ANONYMOUS",
        }

    def _format(self) -> None:
        """Prepare the data folders; the nodes' JVMs do it at the same time."""
        running = []
        for node in self._nodes:
            if node.is_formatted():
                continue
            arguments = ["format", "-t", self._cluster_id, "-c", str(node.properties_file)]
            arguments += self._format_options()
            command = node.java("kafka.tools.StorageTool", *arguments, heap="128m")
            log = node.log_file.open("ab")
            running.append((node, log, subprocess.Popen(command, stdout=log, stderr=log)))
        for node, log, process in running:
            code = process.wait()
            log.close()
            if code != 0:
                raise RuntimeError(f"Kafka's storage was not formatted:\n{_tail(node.log_file)}")

    def _wait_until_up(self, nodes: list[_Node]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        wanted = {node.port for node in nodes}
        addresses = ",".join(f"{HOST}:{port}" for port in wanted)
        while time.monotonic() < deadline:
            for node in nodes:
                if node.process is not None and node.process.poll() is not None:
                    raise RuntimeError(f"Kafka ended at its start:\n{_tail(node.log_file)}")
            if all(_listens(port) for port in wanted) and wanted <= _answering_ports(addresses):
                return
            time.sleep(0.05)
        raise RuntimeError(f"Kafka did not answer in time:\n{_tail(nodes[0].log_file)}")


def _record_classes(archive: Path) -> bool:
    """Run a broker that writes its classes into `archive` as it ends; tell whether it did."""
    cluster = KafkaCluster()
    [node] = cluster._nodes
    node.jvm_options = [f"-XX:ArchiveClassesAtExit={archive}"]
    with cluster, contextlib.suppress(subprocess.TimeoutExpired):
        node.send(signal.SIGTERM)
        assert node.process is not None, "it was started"
        node.process.wait(START_TIMEOUT_SECONDS)
        return True
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _answering_ports(bootstrap_servers: str) -> set[int]:
    """Return the ports of the brokers that the cluster itself knows to be up."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return {broker.port for broker in admin.list_topics(timeout=1.0).brokers.values()}
    except KafkaException:
        return set()


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""


def main() -> int:
    """Run a broker for a person until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.brokers.kafka_server", description="Run a local Apache Kafka."
    )
    parser.add_argument("--port", type=int, default=9092, help="default: %(default)s")
    parser.add_argument("--nodes", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--folder",
        type=Path,
        default=BROKERS_FOLDER / "kafka-data",
        help="where the data lie, kept from run to run; default: %(default)s",
    )
    options = parser.parse_args()
    if _listens(options.port):
        print(f"port {options.port} is taken: stop what listens there, or choose another --port")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(f"Starting Apache Kafka {KAFKA_VERSION} ...", flush=True)
        with KafkaCluster(options.nodes, options.folder, port=options.port) as cluster:
            print(
                f"Apache Kafka {KAFKA_VERSION} is up at {cluster.bootstrap_servers}\n"
                f"  use it:   export KAFKA_BOOTSTRAP_SERVERS={cluster.bootstrap_servers}\n"
                f"  data:     {options.folder} (delete it for a fresh start)\n"
                "  stop it:  Ctrl-C",
                flush=True,
            )
            signal.pause()
    except (KafkaMissingError, RuntimeError) as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

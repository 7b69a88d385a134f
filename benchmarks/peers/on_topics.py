"""The peers: programs between the two topics. `app_1` feeds them, a sink reads what they write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson

from benchmarks.peers import toolbox
from benchmarks.peers.four_scripts import app_1, seconds
from benchmarks.peers.system import GrowingFile, Result, System
from benchmarks.peers.usage import tree
from tests.brokers.harness import BrokerUnderTest
from tests.pipeline.runner import Pipeline

APPS = "benchmarks.peers.apps"


class OnTopics(System):
    """A server that reads one topic and writes another. A result has arrived when a sink has it."""

    def __init__(self, broker: BrokerUnderTest, folder: Path) -> None:
        self.folder = folder
        self.servers_address = broker.environment["KAFKA_BOOTSTRAP_SERVERS"]
        self.pipeline = Pipeline(broker, folder)
        super().__init__(self.pipeline.ids_file)
        self.images, self.topic_of_results = self.pipeline.images, self.pipeline.inferences
        for topic in (self.images, self.topic_of_results):
            self.pipeline.connect().create_topic(topic)
        self._arrived = GrowingFile(folder / "arrived.txt")
        sink = [sys.executable, "-m", f"{APPS}.sink", self.servers_address]
        self._sink = self._start([*sink, self.topic_of_results, self._arrived.path], "sink")
        self.restart()

    @abstractmethod
    def command(self) -> list[object]:
        """Return the command line of the server; `prepare` is done."""

    def environment(self) -> dict[str, str]:
        """Return what it needs in its environment."""
        return {}

    def publisher(self, count: int, rate: float | None) -> subprocess.Popen[bytes]:
        return app_1(self.pipeline, count, rate)

    def _new_results(self) -> Iterator[Result]:
        for line in self._arrived.lines():
            arrived, _, body = line.partition(b" ")
            yield self.read(orjson.loads(body), float(arrived))

    def read(self, body: dict[str, str], arrived: float) -> Result:
        """Read the body of a result."""
        right = body["label"] == body["expected_label"]
        return Result(body["id"], seconds(body["published_at"]), arrived, right)

    def servers(self) -> list[int]:
        return [self._server.pid]

    def readers(self) -> list[int]:
        return [self._sink.pid]

    def kill(self) -> None:
        for process in list(tree([self._server.pid])):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self._server.wait()

    def restart(self) -> None:
        self._server = self._start(self.command(), "server", **self.environment())

    def stop(self) -> None:
        self.kill()
        self._sink.kill()
        self._sink.wait()
        self.pipeline.stop()
        self.pipeline.broker.end_of_test()

    def _start(self, command: list[object], name: str, **more: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(each) for each in command],
                cwd=toolbox.ROOT,
                env={**os.environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


class KafkaStreams(OnTopics):
    """Kafka Streams with ONNX Runtime, both in Java; a thread for each of the two cores."""

    guarantee = "at_least_once"
    form = "float32"

    def command(self) -> list[object]:
        java = ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        settings = [toolbox.onnx_file(self.form), self.guarantee, 2, self.folder / "state"]
        topics = [self.images, self.topic_of_results]
        main = ["-cp", toolbox.classpath(), "peers.ServeImages", self.servers_address]
        return [*java, *main, *topics, *settings]


class KafkaStreamsExactlyOnce(KafkaStreams):
    """The same in transactions."""

    guarantee = "exactly_once_v2"


class KafkaStreamsInt8(KafkaStreams):
    """The same as at least once, with the network in 8 bits."""

    form = "int8"


class FastStream(OnTopics):
    """FastStream on confluent-kafka, in batches whose results share requests."""

    batch = 256
    linger_ms = 5

    def command(self) -> list[object]:
        python = toolbox.python_with("faststream")
        return [python, "-m", "faststream", "run", f"{APPS}.faststream_app:app"]

    def environment(self) -> dict[str, str]:
        return {
            "SERVERS": self.servers_address,
            "IMAGES": self.images,
            "RESULTS": self.topic_of_results,
            "BATCH": str(self.batch),
            "LINGER_MS": str(self.linger_ms),
            "THREADS": "2",
        }


class FastStreamAsItComes(FastStream):
    """FastStream on confluent-kafka, in batches, as its documentation shows them."""

    linger_ms = 0


class FastStreamOneByOne(FastStreamAsItComes):
    """FastStream on confluent-kafka, one message a call."""

    batch = 1


class PlainLoop(OnTopics):
    """A loop over confluent-kafka with LiteRT."""

    def command(self) -> list[object]:
        topics = [self.images, self.topic_of_results]
        return [sys.executable, "-m", f"{APPS}.plain_loop", self.servers_address, *topics]


class MLServer(OnTopics):
    """MLServer in its Kafka mode, with adaptive batching."""

    def command(self) -> list[object]:
        place = self.folder / "mlserver"
        place.mkdir(exist_ok=True)
        model = {
            "name": "digits",
            "implementation": f"{APPS}.mlserver_runtime.DigitsRuntime",
            "max_batch_size": 64,
            "max_batch_time": 0.01,
        }
        settings = {
            "kafka_enabled": True,
            "kafka_servers": self.servers_address,
            "kafka_topic_input": self.images,
            "kafka_topic_output": self.topic_of_results,
            "host": "127.0.0.1",
            "http_port": 0,
            "grpc_port": 0,
            "metrics_endpoint": None,
        }
        (place / "model-settings.json").write_bytes(orjson.dumps(model))
        (place / "settings.json").write_bytes(orjson.dumps(settings))
        return [toolbox.python_with("mlserver").with_name("mlserver"), "start", place]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(toolbox.ROOT)}

    def publisher(self, count: int, rate: float | None) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", f"{APPS}.json_publisher", self.servers_address]
        numbers = [count, rate or 0, self._sent]
        return self._start([*program, self.images, self._ids_file, *numbers], "publisher")

    def read(self, body: dict[str, str], arrived: float) -> Result:
        """Read when it was meant to be sent, and the label, from the id."""
        milliseconds, label, _ = body["id"].split("-")
        answered = body["outputs"][0]["data"][0]  # type: ignore[index]
        return Result(body["id"], int(milliseconds) / 1000, arrived, str(answered) == label)

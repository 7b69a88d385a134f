"""The scripts and tools on the secured cluster, each as the principal of its name."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.brokers.harness import clean_environment
from tests.brokers.secured_kafka import SecuredKafka
from tests.diagnosis.walls import ROOT, Ended, run_process
from tests.servers import free_port
from tests.waiting import wait_until

# The arguments of each tool, by its principal. Without topics those of the pipeline are meant, but
# for deleting, which wants to be told.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "ping": ("ping",),
    "topics-create": ("topics", "create"),
    "topics-list": ("topics", "list"),
    "backlog": ("backlog",),
    "letters-list": ("dead-letters", "list"),
    "letters-replay": ("dead-letters", "replay"),
    "letters-purge": ("dead-letters", "purge", "--all"),
    "topics-delete": ("topics", "delete"),
}
SCRIPTS = ("app_1", "model_server_sub", "model_server_pub", "app_2")
# A whole script, from its start to its end, on a busy machine (s).
SCRIPT_TIMEOUT_SECONDS = 60.0


class SecuredPipeline:
    """One folder with settings, queue and DB; it stops what it started."""

    def __init__(self, kafka: SecuredKafka, folder: Path) -> None:
        self._kafka = kafka
        self.folder = folder
        self.db = folder / "db.txt"
        self.ports = {script: free_port() for script in SCRIPTS[1:]}
        self._running: list[Running] = []

    def settings_of(self, principal: str) -> Path:
        """Write the INI file with which a principal logs in; its password is in the environment."""
        folder = self.folder / principal
        folder.mkdir(exist_ok=True)
        properties = {**self._kafka.login(principal), "sasl.password": "${KAFKA_SASL_PASSWORD}"}
        lines = [f"{name} = {value}\n" for name, value in properties.items()]
        (folder / "kafka_config.ini").write_text("[default]\n" + "".join(lines))
        return folder

    def environment_of(self, principal: str) -> dict[str, str]:
        return {
            "MESSAGE_BROKER": "kafka",
            "MESSAGE_BROKER_CONFIG_DIR": str(self.settings_of(principal)),
            "KAFKA_SASL_PASSWORD": self._kafka.passwords[principal],
        }

    def use(self, tool: str, *arguments: str) -> Ended:
        """Run a tool to its end."""
        return run_process(
            "-m",
            "MessageBroker",
            *TOOLS[tool],
            *arguments,
            environment=self.environment_of(tool),
        )

    def arguments_of(self, script: str) -> list[str]:
        queue = ["--queue", str(self.folder / "queue" / "log.txt")]
        arguments = {
            "app_1": ["--count", "100000", "--rate", "20"],
            "model_server_sub": queue,
            "model_server_pub": queue,
            "app_2": ["--db", str(self.db)],
        }[script]
        if script in self.ports:
            arguments = [*arguments, "--metrics-port", str(self.ports[script])]
        return arguments

    def start(self, script: str, *arguments: str) -> Running:
        """Start a script; `arguments` in place of its usual ones."""
        running = Running(
            script,
            self.folder / f"{script}-{len(self._running)}.log",
            list(arguments) or self.arguments_of(script),
            self.environment_of(script),
        )
        self._running.append(running)
        return running

    def rows(self) -> int:
        return self.db.read_bytes().count(b"\n") if self.db.exists() else 0

    def stop(self) -> None:
        for running in self._running:
            running.kill()


class Running:
    """A script that runs."""

    def __init__(
        self, name: str, log: Path, arguments: list[str], environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / f"{name}.py"), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **environment},
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def ready(self) -> Running:
        """Wait until it works: a consumer says so, `app_1` at its first confirmed image."""
        wait_until(
            lambda: "ready: " in self.output or self.process.poll() is not None,
            f"{self.name} is ready",
        )
        assert self.process.poll() is None, self.output
        return self

    def end(self, seconds: float = SCRIPT_TIMEOUT_SECONDS) -> Ended:
        began = time.monotonic()
        code = self.process.wait(seconds)
        return Ended(code, self.output, time.monotonic() - began)

    def terminate(self) -> Ended:
        self.process.terminate()
        return self.end()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def secured_pipeline(kafka: SecuredKafka, folder: Path) -> Iterator[SecuredPipeline]:
    """Make a pipeline; end what it has started."""
    pipeline = SecuredPipeline(kafka, folder)
    try:
        yield pipeline
    finally:
        pipeline.stop()

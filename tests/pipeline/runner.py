"""The four scripts as a user runs them: real processes, each with a log of its own."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from DB import open_database
from MessageBroker.core.broker import BrokerCore
from tests.brokers.harness import BrokerUnderTest, clean_environment
from tests.waiting import LOOK_SECONDS, PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).resolve().parents[2]
# A server has work with each look.
SERVER_LOOK_SECONDS = 0.3


@dataclass
class Script:
    """One script, running."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ready(self) -> Script:
        """Wait until it says that it is ready."""
        wait_until(
            lambda: "ready: " in self.output or self.process.poll() is not None,
            f"{self.name} is ready",
        )
        assert self.process.poll() is None, self.output
        return self

    def says(self, text: str, after: int = 0) -> Script:
        """Wait until it says so, after as many characters of its output."""
        wait_until(lambda: text in self.output[after:], f"{self.name} says {text!r}: {self.log}")
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> str:
        """Ask it to end; it has to end with 0. Returns its last line."""
        self.process.terminate()
        return self.end()

    def end(self, code: int = 0) -> str:
        """Wait for its end. Returns its last line."""
        assert self.process.wait(PATIENCE_SECONDS) == code, self.output
        assert "Traceback" not in self.output, self.output
        return self.output.strip().splitlines()[-1]


class Pipeline:
    """One pipeline on one broker: topics, queue and DB of its own."""

    def __init__(self, broker: BrokerUnderTest, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.queue: Path | str = folder / "Queue" / "log.txt"
        self.db: Path | str = folder / "DB" / "db.txt"
        self.ids_file = folder / "ids.txt"
        self.config_dir = folder / "config"
        shutil.copytree(broker.config_dir, self.config_dir, ignore=shutil.ignore_patterns("broker"))
        self.images = broker.unused_name("images")
        self.inferences = broker.unused_name("inferences")
        with (self.config_dir / "broker_config.ini").open("a") as ini:
            ini.write(f"[topics]\nimages = {self.images}\ninferences = {self.inferences}\n")
        self.scripts: list[Script] = []

    def set_delivery(self, **settings: float) -> None:
        """Add to `[delivery]` of the scripts that are started from now on."""
        ini = ConfigParser()
        ini.read(self.config_dir / "broker_config.ini")
        ini.setdefault("delivery", {}).update({name: f"{settings[name]:g}" for name in settings})
        with (self.config_dir / "broker_config.ini").open("w") as file:
            ini.write(file)

    def start(self, name: str, *arguments: object, **environment: str) -> Script:
        log = self.folder / f"{len(self.scripts)}-{name}.log"
        command = [*self.command(name), "--config-dir", str(self.config_dir)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**clean_environment(), **self.broker.environment, **environment},
            )
        script = Script(name, process, log)
        self.scripts.append(script)
        return script

    def command(self, name: str) -> list[str]:
        """How a script is started; benchmarks put something before it."""
        return [sys.executable, str(ROOT / f"{name}.py")]

    def app_1(self, *arguments: object) -> Script:
        return self.start("app_1", "--ids", self.ids_file, *arguments)

    def sub(self, *arguments: object, **environment: str) -> Script:
        return self.start("model_server_sub", "--queue", self.queue, *arguments, **environment)

    def pub(self, *arguments: object) -> Script:
        return self.start("model_server_pub", "--queue", self.queue, *arguments)

    def app_2(self, *arguments: object) -> Script:
        return self.start("app_2", "--db", self.db, *arguments)

    def connect(self) -> BrokerCore:
        return self.broker.connect()

    def ids(self) -> list[str]:
        return self.ids_file.read_text().split()

    def rows(self, db: Path | str | None = None) -> list[dict[str, Any]]:
        where = db or self.db
        if isinstance(where, str):
            with open_database(where, read_only=True) as opened:
                return list(opened)
        if not where.exists():
            return []
        lines = where.read_bytes().split(b"\n")
        return [orjson.loads(line) for line in lines[:-1] if line]

    def stored(self, db: Path | str | None = None) -> int:
        where = db or self.db
        if isinstance(where, str):
            with open_database(where, read_only=True) as opened:
                return opened.count()
        return where.read_bytes().count(b"\n") if where.exists() else 0

    def wait_for_rows(
        self, count: int, db: Path | str | None = None, seconds: float = PATIENCE_SECONDS
    ) -> None:
        where = db or self.db
        wait_until(
            lambda: self.stored(where) >= count,
            f"{count} rows in {where}",
            seconds,
            SERVER_LOOK_SECONDS if isinstance(where, str) else LOOK_SECONDS,
        )

    def assert_each_stored_once(self, db: Path | str | None = None) -> None:
        """What app_1 reported is in the DB, each image once."""
        stored = [row["id"] for row in self.rows(db)]
        assert len(stored) == len(set(stored)), "an id is twice in the DB"
        assert sorted(stored) == sorted(self.ids())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for script in self.scripts:
            if script.process.poll() is None:
                script.process.send_signal(signal.SIGCONT)
                script.process.kill()
                script.process.wait()


def read_terminal(fd: int, until: bytes | None = None) -> bytes:
    """Read what a terminal shows, up to a text, or to its end; fail after `PATIENCE_SECONDS`."""
    shown, deadline = b"", time.monotonic() + PATIENCE_SECONDS
    while until is None or until not in shown:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"after {PATIENCE_SECONDS:g} s still not {until!r} in: {shown!r}"
        try:
            more = os.read(fd, 4096)
        except OSError:  # Linux: everybody has closed the other end
            more = b""
        if not more:
            assert until is None, f"it ended without {until!r}: {shown!r}"
            break
        shown += more
    return shown


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def dead_letters(broker: BrokerCore, topic: str, count: int) -> list[Any]:
    """Read `count` dead letters of a topic."""
    letters: list[Any] = []
    with broker.subscribe(f"{topic}-dead-letter") as subscription:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(letters) < count and time.monotonic() < deadline:
            received = subscription.receive(100, 1.0)
            letters += received
            subscription.ack(received)
    return letters

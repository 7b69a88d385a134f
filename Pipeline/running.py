"""The scripts, run by a program as they would be in terminals of their own: the demo, the page."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from DurableText.command_line import refusal_of
from DurableText.installation.places import CODE, in_checkout
from DurableText.storage import STORAGE, make_durable_directory

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.1


class RunError(Exception):
    """Raised when a script did not do what it should; the text says where to look."""


def make_folder(path: Path) -> None:
    """Make the folder of a run, and those above it.

    Raises:
        RunError: the system would not.
    """
    try:
        make_durable_directory(STORAGE, path)
    except OSError as error:
        moved = "" if in_checkout() else "; XDG_STATE_HOME names another place for what is made"
        raise RunError(f"{refusal_of(error)}{moved}") from error


@dataclass
class RunningScript:
    """One script, running.

    Attributes:
        name: which.
        process: its process.
        log: where its output goes.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self) -> str:
        """Wait for its line that says so; return what it says."""
        deadline = time.monotonic() + START_SECONDS
        while "ready: " not in (said := self.log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = (said.strip().splitlines() or ["it says nothing"])[-1]
                raise RunError(f"{self.name} did not start: see {self.log}\n{last}")
            time.sleep(LOOK_SECONDS)
        return said.partition("ready: ")[2].splitlines()[0]

    def require_well(self) -> None:
        """Raise if it has failed; it may have ended well."""
        code = self.process.poll()
        if code:
            raise RunError(f"{self.name} ended with {code}: see {self.log}")

    def finish(self, timeout: float) -> str:
        """Wait for its end; return its last line, the summary.

        Args:
            timeout: seconds; then it is killed.

        Raises:
            RunError: it did not end well.
        """
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.require_well()
        said = self.log.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else f"{self.name}: ended before it had begun"


@dataclass
class RunningPipeline:
    """Scripts on one broker, with all that they keep in a folder of their own.

    Attributes:
        folder: where that is; it exists.
        broker: which broker.
        scripts: those that were started.
    """

    folder: Path
    broker: str
    scripts: list[RunningScript] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = self.folder / "Queue" / "log.txt"
        self.db = self.folder / "DB" / "db_for_app_2.txt"
        self.environment = {**os.environ, "LOCAL_BROKER_PATH": str(self.folder / "broker")}

    def start(self, name: str, *arguments: object) -> RunningScript:
        """Start one of the four scripts, or a module; its output goes into a log of its own."""
        is_script = (CODE / f"{name}.py").exists()
        program = [str(CODE / f"{name}.py")] if is_script else ["-m", name]
        log = self.folder / f"{name}.log"
        paths = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))
        with os.fdopen(STORAGE.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as output:
            process = subprocess.Popen(
                [sys.executable, *program, "--broker", self.broker, *map(str, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self.environment, "PYTHONPATH": paths},
                cwd=self.folder,
            )
        script = RunningScript(name, process, log)
        self.scripts.append(script)
        return script

    def terminate(self) -> list[str]:
        """Ask all to end, and wait; return the last lines of those that ended well."""
        for script in self.scripts:
            script.process.terminate()
        said = []
        for script in self.scripts:
            try:
                said.append(script.finish(STOP_SECONDS))
            except RunError as error:
                said.append(str(error))
        return said

    def kill(self) -> None:
        """End whatever still runs."""
        for script in self.scripts:
            if script.process.poll() is None:
                script.process.kill()
                script.process.wait()

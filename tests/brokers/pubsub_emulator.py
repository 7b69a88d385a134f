"""The Pub/Sub emulator as a test server: Google's own jar, run by Java without `gcloud` around it.

The `gcloud beta emulators pubsub start` command takes several seconds and leaves the Java process
behind when it is killed; the jar alone answers after 1 to 2 s and ends with its process.

    python -m tests.brokers.pubsub_emulator [--port 8085]

runs one until Ctrl-C and prints what to export.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from DurableText.program.closing import ClosedAtExit
from tests.servers import free_port, skip_if_missing

HOST = "127.0.0.1"
PROJECT_ID = "emulated-project"
# It answers after 1 to 2 s on an idle machine; a loaded one needs many times that.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
# As for Kafka: the second compiler and several collectors cost more than they give.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
JAR_PATTERN = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
KNOWN_SDK_ROOTS = (
    "/usr/lib/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "~/google-cloud-sdk",
)
HOW_TO_GET_IT = (
    "the Pub/Sub emulator needs Java 17 or later on the PATH and the Google Cloud CLI with its "
    "component: `gcloud components install pubsub-emulator` (Debian: `apt install "
    "google-cloud-cli-pubsub-emulator`)"
)


class EmulatorNotFoundError(Exception):
    """Raised when Java or the emulator's jar is not on this machine."""


class PubSubEmulator(ClosedAtExit):
    """A Pub/Sub emulator on a free port of this machine. Its topics live in memory alone.

    It keeps its port when it is stopped and started again, but forgets everything else.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.host = f"{HOST}:{self.port}"
        self._jar = find_jar()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs to reach this emulator."""
        return {"PUBSUB_EMULATOR_HOST": self.host, "GOOGLE_CLOUD_PROJECT": PROJECT_ID}

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._log.seek(0)
        self._log.truncate()
        self._process = subprocess.Popen(
            [*JAVA, "-jar", str(self._jar), f"--host={HOST}", f"--port={self.port}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the emulator did not start on {self.host}:\n{self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it. Twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a paused process does not see SIGTERM
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stop it from answering, as a network that swallows everything does."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again, with all that it had."""
        self._running().send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what it has printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the emulator was not started")
        return self._process

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}/", timeout=1) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> PubSubEmulator:
        self.start()
        return self

    def close(self) -> None:
        """See `stop`."""
        self.stop()


def find_jar() -> Path:
    """Find the emulator's jar under the Cloud SDK's root."""
    if shutil.which("java") is None:
        raise EmulatorNotFoundError(HOW_TO_GET_IT)
    roots = [Path(root).expanduser() for root in KNOWN_SDK_ROOTS]
    for root in roots:
        if jars := sorted(root.glob(JAR_PATTERN)):
            return jars[-1]
    # Asked last: it takes a second.
    if jars := sorted(_sdk_root_by_gcloud().glob(JAR_PATTERN)):
        return jars[-1]
    raise EmulatorNotFoundError(HOW_TO_GET_IT)


def find_or_skip() -> None:
    """Skip the test where the emulator is missing; fail in CI, which must skip nothing."""
    skip_if_missing(find_jar, EmulatorNotFoundError)


def _sdk_root_by_gcloud() -> Path:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorNotFoundError(HOW_TO_GET_IT)
    answer = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(answer.stdout.strip() or "/nonexistent")


def main() -> None:
    """Run an emulator until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run a local Pub/Sub emulator until Ctrl-C.")
    parser.add_argument("--port", type=int, default=8085)
    emulator = PubSubEmulator(parser.parse_args().port)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopped.set())
    with emulator:
        print(f"The Pub/Sub emulator answers on {emulator.host}. In other terminals:")
        for name, value in emulator.environment.items():
            print(f"  export {name}={value}")
        print("  export MESSAGE_BROKER=pubsub")
        print("Ctrl-C stops it and forgets its topics.", flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()

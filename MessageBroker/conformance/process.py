"""Another process that uses the same broker: to be killed, stopped, or raced against.

The test drives it by one JSON line a command and one a reply:

    with Worker("kafka", KafkaHandler, config_dir, environment) as worker:
        worker.call("subscribe", topic=topic)
        assert worker.call("receive", count=3) == ["0", "1", "2"]
        worker.kill()
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DurableText.program.closing import ClosedAtExit
from MessageBroker.core.broker import BrokerCore

WORKER = "MessageBroker.conformance.worker"
# A Python with a client library starts in one or two seconds; a loaded machine needs many more.
REPLY_TIMEOUT_SECONDS = 60.0


class Worker(ClosedAtExit):
    """The test's end of it."""

    def __init__(
        self,
        broker: str,
        handler: type[BrokerCore],
        config_dir: Path,
        environment: Mapping[str, str],
    ) -> None:
        """Start it.

        Args:
            broker: the broker's name.
            handler: its class, which the other process imports by its name.
            config_dir: the folder of the INI files.
            environment: what is set there beside this process's own.
        """
        target = f"{handler.__module__}:{handler.__qualname__}"
        # It finds what was found here, wherever pytest has added folders.
        path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER, broker, target, str(config_dir)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._replies: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, command: str, **arguments: Any) -> Any:
        """Have one command done and return its result."""
        self.send(command, **arguments)
        return self.reply()

    def send(self, command: str, **arguments: Any) -> None:
        """Begin a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()

    def reply(self) -> Any:
        """Wait for the next line of the worker."""
        line = self._replies.get(timeout=REPLY_TIMEOUT_SECONDS)
        if line is None:
            raise AssertionError("the worker has ended")
        if "error" in line:
            raise AssertionError(f"in the worker: {line['error']}")
        return line["result"]

    def replies_so_far(self) -> list[Any]:
        """Return what has come, without waiting; of a process that was killed, all it ever said."""
        if self._process.poll() is not None:
            self._reader.join()
        results: list[Any] = []
        while True:
            try:
                line = self._replies.get_nowait()
            except queue.Empty:
                return results
            if line is None:  # the end: whoever asks again shall find it again
                self._replies.put(None)
                return results
            assert "error" not in line, f"in the worker: {line['error']}"
            results.append(line["result"])

    def kill(self) -> None:
        """End it as a lost host would: without a word."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Freeze it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A line cut short by a kill was never a reply.
            if line.endswith("\n"):
                self._replies.put(json.loads(line))
        self._replies.put(None)

    def close(self) -> None:
        """Kill it, if it still runs; twice is fine."""
        self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()

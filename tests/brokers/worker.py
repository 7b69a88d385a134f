"""Another process that uses the same broker: to be killed, stopped, or raced against.

The test drives it by one JSON line a command and one a reply:

    with Worker("kafka", config_dir, environment) as worker:
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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# A Python with a client library starts in one or two seconds; a loaded machine needs many more.
REPLY_TIMEOUT_SECONDS = 60.0


class Worker:
    """The test's end."""

    def __init__(self, broker: str, config_dir: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.brokers.worker", broker, str(config_dir)],
            cwd=ROOT,
            env={**os.environ, **environment},
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
        results = []
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

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()


class _Commands:
    """The worker's end: each public method is a command."""

    def __init__(self, broker: str, config_dir: str) -> None:
        from MessageBroker import MessageBrokerFactory

        self._broker = MessageBrokerFactory.get_broker(broker, config_dir=config_dir)

    def create_topic(self, topic: str) -> bool:
        return self._broker.create_topic(topic)

    def subscribe(self, topic: str, subscription_id: str | None = None) -> None:
        self._subscription = _patiently(lambda: self._broker.subscribe(topic, subscription_id))
        self._held: list[Any] = []

    def receive(self, count: int, timeout: float = 20.0) -> list[str]:
        """Receive and hold `count` messages; return their bodies."""
        deadline = time.monotonic() + timeout
        bodies: list[str] = []
        while len(bodies) < count and time.monotonic() < deadline:
            messages = self._subscription.receive(count - len(bodies), 0.5)
            self._held += messages
            bodies += [message.data.decode() for message in messages]
        return bodies

    def ack(self) -> int:
        """Acknowledge all that is held; return how many acks were late."""
        self._subscription.ack(self._held)
        # A stopped process learns of its loss at its next renewal.
        deadline = time.monotonic() + 10
        while self._subscription.late_acks < len(self._held) and time.monotonic() < deadline:
            self._subscription.receive(1, 0.2)
        return self._subscription.late_acks

    def consume_for_ever(self, nack_every: int = 0) -> None:
        """Receive and acknowledge, small batches, reporting each before and after its ack.

        Of each `nack_every` messages one is nacked instead, when it comes first.
        """
        while True:
            messages = self._subscription.receive(20, 0.2)
            nacked = [each for each in messages[:: nack_every or 99] if each.delivery_attempt == 1]
            if nack_every:
                self._subscription.nack(nacked)
                messages = [each for each in messages if each not in nacked]
            if messages:
                bodies = [message.data.decode() for message in messages]
                _say({"acking": bodies})
                self._subscription.ack(messages)
                _say({"acked": bodies})  # late or not: somebody has worked on them

    def dead_letter_for_ever(self, reason: str) -> None:
        """Move whatever comes to the dead-letter topic, reporting each."""
        while True:
            for message in self._subscription.receive(20, 0.2):
                self._subscription.dead_letter([message], reason)
                _say(reason)

    def publish_for_ever(self, topic: str, first: int = 0) -> None:
        """Publish numbers, reporting each that is confirmed."""

        def confirmed(number: int) -> Callable[[Any], None]:
            return lambda future: None if future.exception() else _say(number)

        number = first
        while True:
            body = str(number).encode()
            future = _patiently(lambda: self._broker.publish(topic, body))  # noqa: B023
            future.add_done_callback(confirmed(number))
            number += 1
            time.sleep(0.0005)

    def close(self) -> None:
        self._broker.close()


def _patiently(work: Callable[[], Any]) -> Any:
    """Begin in an outage as a script does: by waiting for its end."""
    from MessageBroker import BrokerUnavailableError

    while True:
        try:
            return work()
        except BrokerUnavailableError:
            time.sleep(0.2)


_saying = threading.Lock()


def _say(result: Any) -> None:
    with _saying:
        print(json.dumps({"result": result}), flush=True)


def main() -> None:
    """Do what comes on the standard input until it ends."""
    commands = _Commands(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            _say(getattr(commands, command)(**arguments))
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()

"""What the other process of `MessageBroker.conformance.process` does."""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import json
import pkgutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from MessageBroker import BrokerUnavailableError, MessageBrokerFactory
from MessageBroker.registry import OWN_NAMES, register_broker


class _Commands:
    """Each public method is a command."""

    def __init__(self, broker: str, config_dir: str) -> None:
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
        late: int = self._subscription.late_acks
        return late

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
    name, target, config_dir = sys.argv[1:]
    if name not in OWN_NAMES:
        register_broker(name, pkgutil.resolve_name(target))
    commands = _Commands(name, config_dir)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            _say(getattr(commands, command)(**arguments))
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()

"""What the tests of this folder say again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from MessageBroker import BrokerInterface, Message, OutgoingMessage, Subscription
from MessageBroker.broker_interface import dead_letter_topic

# The longest that any promise takes is the failover's 15 seconds; the rest is for a busy machine.
PATIENCE_SECONDS = 40.0
# Below every lease: what comes within it was given back and did not run out.
SOON_SECONDS = 8.0
# So long must nothing come before a test believes that nothing will.
QUIET_SECONDS = 0.5


def numbered(count: int, key: str | None = None) -> list[OutgoingMessage]:
    """Return messages whose bodies are "0", "1", ..."""
    return [OutgoingMessage(str(number).encode(), key) for number in range(count)]


def numbers(count: int) -> list[str]:
    """Return the bodies of `numbered`."""
    return [str(number) for number in range(count)]


def bodies(messages: Iterable[Message]) -> list[str]:
    """Return the bodies as text, in order."""
    return [message.data.decode() for message in messages]


def in_order(texts: Iterable[str]) -> list[str]:
    """Sort numbers that are written as text."""
    return sorted(texts, key=int)


def receive(
    subscription: Subscription, count: int = 1, patience: float = PATIENCE_SECONDS
) -> list[Message]:
    """Receive `count` messages, however many receives that takes; fail if they do not come."""
    received: list[Message] = []
    deadline = time.monotonic() + patience
    while len(received) < count:
        assert time.monotonic() < deadline, (
            f"{len(received)} of {count} messages came within {patience:g} seconds: "
            f"{bodies(received)[:20]}"
        )
        received += subscription.receive(count - len(received), 0.5)
    return received


def receive_soon(subscription: Subscription, count: int) -> list[Message]:
    """Receive what was given back: well within every lease, once the consumer has its share."""
    received: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(received) < count and not subscription.ready:
        assert time.monotonic() < deadline, "the consumer was never ready"
        received += subscription.receive(count - len(received), 0.1)
    return received + receive(subscription, count - len(received), patience=SOON_SECONDS)


def receive_one(subscription: Subscription) -> Message:
    """Receive the next message."""
    return receive(subscription, 1)[0]


def receive_bodies(
    subscriptions: Sequence[Subscription], wanted: Iterable[str]
) -> dict[str, list[Message]]:
    """Receive until each of the `wanted` bodies came, acknowledging; return all, by body."""
    missing = set(wanted)
    received: dict[str, list[Message]] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing:
        assert time.monotonic() < deadline, f"these never came: {sorted(missing)[:20]}"
        for subscription in subscriptions:
            messages = subscription.receive(500, 0.1)
            subscription.ack(messages)
            for message in messages:
                received.setdefault(message.data.decode(), []).append(message)
                missing.discard(message.data.decode())
    return received


def assert_nothing_comes(*subscriptions: Subscription, seconds: float = QUIET_SECONDS) -> None:
    """Fail if any message comes within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for subscription in subscriptions:
            came = subscription.receive(100, 0.1)
            assert not came, f"these came: {bodies(came)}"


def read_dead_letters(broker: BrokerInterface, topic: str, count: int) -> list[Message]:
    """Receive and acknowledge `count` dead letters of `topic`, and make sure there are no more."""
    with broker.subscribe(dead_letter_topic(topic)) as subscription:
        letters = receive(subscription, count) if count else []
        assert_nothing_comes(subscription)
        subscription.ack(letters)
    return letters


def wait_until_ready(*subscriptions: Subscription) -> None:
    """Return when each consumer has its share; nothing may have been published yet."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(subscription.ready for subscription in subscriptions):
        assert time.monotonic() < deadline, "a consumer was never ready"
        for subscription in subscriptions:
            assert subscription.receive(1, 0.05) == []


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.02)

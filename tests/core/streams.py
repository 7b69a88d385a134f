"""The smallest driver: a stream over a list, that tells what the core asked of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from MessageBroker import DeliverySettings, Message, Subscription
from MessageBroker.core.driver import Stream
from MessageBroker.core.outage import Outage
from MessageBroker.core.subscription import SubscriptionCore
from MessageBroker.errors import BrokerError
from MessageBroker.message import Delivery


def message(body: str, key: str | None = None) -> Message:
    """Return a message as a handler makes it."""
    return Message(
        id=f"id of {body}",
        data=body.encode(),
        attributes={},
        key=key,
        topic="topic",
        publish_time=datetime.now(UTC),
        delivery=Delivery(body, len(body)),
    )


class ListStream(Stream):
    """Hands out what `arrive` was given."""

    renew_interval = 0.05

    def __init__(self) -> None:
        self.arrived = threading.Condition()
        self.waiting: list[Message] = []
        self.error: BrokerError | None = None
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []
        self.closed = False
        self.used_after_close: list[str] = []
        self.before_acknowledge: Callable[[], None] = lambda: None
        self.before_release: Callable[[], None] = lambda: None

    def arrive(self, *messages: Message) -> None:
        with self.arrived:
            self.waiting += messages
            self.arrived.notify_all()

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        self._note("fetch")
        if self.error is not None:
            raise self.error
        with self.arrived:
            self.arrived.wait_for(lambda: self.waiting, timeout)
            fetched, self.waiting = self.waiting[:max_messages], self.waiting[max_messages:]
        return fetched

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        self.before_acknowledge()
        self._note("acknowledge")
        self.acknowledged += [delivery.handle for delivery in deliveries]
        return 0

    def renew(self, deliveries: Sequence[Delivery]) -> None:
        self._note("renew")

    def release(self, deliveries: Sequence[Delivery]) -> None:
        self.before_release()
        self._note("release")
        self.given_back += [delivery.handle for delivery in deliveries]

    @property
    def ready(self) -> bool:
        return True

    def close(self, deliveries: Sequence[Delivery]) -> None:
        self._note("close")
        self.closed = True
        self.given_back += [delivery.handle for delivery in deliveries]

    def _note(self, call: str) -> None:
        if self.closed:
            self.used_after_close.append(call)


class DeadLetters:
    """Takes dead letters; refuses them while `refusing`, and answers none while `away`."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.away = False
        self.waiting: list[Future[str]] = []
        self.refusing: BaseException | None = None

    def publish(
        self, topic: str, data: bytes, key: str | None, attributes: dict[str, str]
    ) -> Future[str]:
        future: Future[str] = Future()
        if self.refusing is not None:
            future.set_exception(self.refusing)
        elif self.away:
            self.waiting.append(future)
        else:
            self.bodies.append(data.decode())
            future.set_result("id")
        return future


def subscription_over(
    stream: Stream, letters: DeadLetters | None = None, **settings: float
) -> SubscriptionCore:
    """Return the core's subscription over a stream."""
    return SubscriptionCore(
        "topic",
        "topic-sub",
        stream,
        DeliverySettings(**{"min_backoff": 0.01, "max_backoff": 0.05, **settings}),  # type: ignore[arg-type]
        (letters or DeadLetters()).publish,
        lambda _subscription: None,
        Outage(),
    )


def receive_until(subscription: Subscription, count: int) -> list[str]:
    """Return the bodies that come until there are so many; those that are there, if fewer do."""
    received: list[str] = []
    deadline = time.monotonic() + 10
    while len(received) < count and time.monotonic() < deadline:
        received += [each.data.decode() for each in subscription.receive(10, 0.2)]
    return received

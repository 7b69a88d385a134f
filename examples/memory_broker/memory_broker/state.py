"""The broker itself: topics, subscriptions, and who holds which message.

A subscription keeps what is not acknowledged: in `waiting`, by sequence number, or in the hands of
a consumer. A consumer holds a key as long as it holds a message of it, and nobody else is given
messages of that key: so they stay in order. One that does not renew for `LEASE_SECONDS` is dead.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from MessageBroker import ConfigurationError, SubscriptionNotFoundError
from MessageBroker.errors import topic_not_found

# Failover stays within 15 seconds, and there are three chances to renew within a lease (s).
LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.5


class NewMessage(NamedTuple):
    """What a publisher hands over."""

    key: str | None
    attributes: Mapping[str, str]
    data: bytes


class StoredMessage(NamedTuple):
    """A message in a topic; `seq` never repeats, in whichever topic."""

    seq: int
    id: str
    time: datetime
    message: NewMessage


@dataclass
class Consumer:
    """One consumer of one subscription.

    Attributes:
        expires: monotonic time at which its lease ends.
        held: what it was given and has not settled, by sequence number.
        keys: how many messages of each key are among them.
        fetch: the number of its newest request for messages.
        answer: what that was given. If it never arrived it is given back.
        settled: what its newest acknowledgement has settled: it may come again.
    """

    expires: float
    held: dict[int, StoredMessage] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    fetch: int = 0
    answer: Sequence[int] = ()
    settled: Collection[int] = ()

    def take(self, stored: StoredMessage) -> None:
        """Hold one more."""
        self.held[stored.seq] = stored
        if stored.message.key:
            self.keys[stored.message.key] += 1

    def drop(self, seq: int) -> StoredMessage | None:
        """Hold one less; None if it was not held."""
        stored = self.held.pop(seq, None)
        if stored is not None and stored.message.key:
            self.keys[stored.message.key] -= 1
        return stored


class Subscription:
    """What one subscription has to deliver."""

    def __init__(self) -> None:
        self.waiting: dict[int, StoredMessage] = {}  # in order of their numbers
        self.consumers: dict[str, Consumer] = {}

    def backlog(self) -> int:
        """Count what is not acknowledged."""
        return len(self.waiting) + sum(len(each.held) for each in self.consumers.values())

    def bury_the_dead(self) -> None:
        """Give back what consumers hold whose lease has ended."""
        now = time.monotonic()
        for name in [name for name, each in self.consumers.items() if each.expires < now]:
            self.leave(name)

    def leave(self, name: str) -> None:
        """Forget a consumer, and give back what it holds."""
        consumer = self.consumers.pop(name, None)
        if consumer is not None:
            self.give_back(consumer, list(consumer.held))

    def give_back(self, consumer: Consumer, seqs: Iterable[int]) -> None:
        """Let messages be delivered again, each where it stood."""
        dropped = [each for each in map(consumer.drop, seqs) if each is not None]
        self.waiting |= {each.seq: each for each in dropped}
        self.waiting = dict(sorted(self.waiting.items()))

    def hand_out(
        self, consumer: Consumer, max_messages: int, max_bytes: int
    ) -> list[StoredMessage]:
        """Give a consumer what it may have, oldest first; the last may exceed `max_bytes`."""
        others = [each.keys for each in self.consumers.values() if each is not consumer]
        given: list[StoredMessage] = []
        size = 0
        for stored in self.waiting.values():
            if len(given) == max_messages or size >= max_bytes:
                break
            if any(keys[stored.message.key or ""] for keys in others):
                continue
            given.append(stored)
            size += len(stored.message.data)
        for stored in given:
            del self.waiting[stored.seq]
            consumer.take(stored)
        return given


class MemoryBroker:
    """All topics. Its public methods but `pardon` are requests of clients, from any thread."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[str, Subscription]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)

    def pardon(self) -> None:
        """Give every consumer a new lease: nobody could renew while the server was away."""
        with self._lock:
            for subscriptions in self._topics.values():
                for subscription in subscriptions.values():
                    for consumer in subscription.consumers.values():
                        consumer.expires = time.monotonic() + LEASE_SECONDS

    def ping(self) -> None:
        """Answer."""

    # ------------------------------------------------------------------ topics

    def create(self, wanted: Mapping[str, str]) -> set[str]:
        """Make what is missing of topics and their subscriptions; return the new topics."""
        with self._lock:
            created = {topic for topic in wanted if topic not in self._topics}
            for topic, name in wanted.items():
                self._topics.setdefault(topic, {})
                self._add_subscription(topic, name)
            return created

    def delete(self, topic: str) -> bool:
        """Delete a topic with its subscriptions; True if it was there."""
        with self._lock:
            self._arrived.notify_all()
            return self._topics.pop(topic, None) is not None

    def topics(self) -> list[str]:
        """Name all topics."""
        with self._lock:
            return list(self._topics)

    def delete_subscription(self, topic: str, name: str) -> bool:
        """Delete a subscription; True if it was there."""
        with self._lock:
            return self._own(topic, name).pop(name, None) is not None

    def backlog(self, topic: str, name: str) -> int:
        """Count what is not acknowledged."""
        with self._lock:
            return self._find(topic, name).backlog()

    # ------------------------------------------------------------------ messages

    def publish(self, topic: str, messages: Sequence[NewMessage]) -> list[str]:
        """Append to a topic; return the ids."""
        with self._lock:
            subscriptions = self._of_topic(topic)
            now = datetime.now(UTC)
            stored = [
                StoredMessage(next(self._numbers), str(uuid.uuid4()), now, each)
                for each in messages
            ]
            for subscription in subscriptions.values():
                subscription.waiting |= {each.seq: each for each in stored}
            self._arrived.notify_all()
            return [each.id for each in stored]

    def join(self, topic: str, name: str, consumer: str) -> None:
        """Make the subscription if it is missing, and a consumer of it."""
        with self._lock:
            subscription = self._add_subscription(topic, name)
            subscription.consumers[consumer] = Consumer(time.monotonic() + LEASE_SECONDS)

    def fetch(
        self,
        topic: str,
        name: str,
        consumer: str,
        request: int,
        arrived: int,
        max_messages: int,
        max_bytes: int,
        timeout: float,
    ) -> list[StoredMessage] | None:
        """Hand out messages as soon as there are any.

        Args:
            topic: of the subscription.
            name: of the subscription.
            consumer: who asks.
            request: one more than in its last call.
            arrived: the request whose answer it got last. What later ones were given is given
                back: nobody has it.
            max_messages: at least 1.
            max_bytes: the last message may exceed it.
            timeout: seconds.

        Returns:
            The messages; None if the consumer was given up for dead.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            while True:
                subscription = self._find(topic, name)
                subscription.bury_the_dead()
                known = subscription.consumers.get(consumer)
                if known is None:
                    return None
                if request < known.fetch:  # it has asked again, over another connection
                    return []
                if arrived < known.fetch < request:
                    subscription.give_back(known, known.answer)
                if known.fetch != request:
                    known.fetch, known.answer = request, ()
                given = subscription.hand_out(known, max_messages, max_bytes)
                if given:
                    known.answer = [each.seq for each in given]
                    return given
                if not self._arrived.wait(max(0.0, deadline - time.monotonic())):
                    return []

    def acknowledge(self, topic: str, name: str, consumer: str, seqs: Collection[int]) -> int:
        """Settle what a consumer holds; return how many of `seqs` it has settled, now or before."""
        with self._lock:
            known = self._find(topic, name).consumers.get(consumer)
            if known is None:
                return 0
            known.settled = [
                seq for seq in seqs if known.drop(seq) is not None or seq in known.settled
            ]
            self._arrived.notify_all()  # a key may be free now
            return len(known.settled)

    def renew(self, topic: str, name: str, consumer: str) -> bool:
        """Let a consumer live on; False if it was given up for dead."""
        with self._lock:
            known = self._find(topic, name).consumers.get(consumer)
            if known is None:
                return False
            known.expires = time.monotonic() + LEASE_SECONDS
            return True

    def release(self, topic: str, name: str, consumer: str, seqs: Collection[int]) -> None:
        """Let what a consumer holds be delivered again."""
        with self._lock:
            subscription = self._find(topic, name)
            known = subscription.consumers.get(consumer)
            if known is not None:
                subscription.give_back(known, seqs)
                self._arrived.notify_all()

    def leave(self, topic: str, name: str, consumer: str) -> None:
        """Forget a consumer; what it holds is delivered again."""
        with self._lock:
            self._find(topic, name).leave(consumer)
            self._arrived.notify_all()

    # ------------------------------------------------------------------ under the lock

    def _of_topic(self, topic: str) -> dict[str, Subscription]:
        subscriptions = self._topics.get(topic)
        if subscriptions is None:
            raise topic_not_found(f"memory broker: there is no topic {topic!r}", topic)
        return subscriptions

    def _find(self, topic: str, name: str) -> Subscription:
        subscription = self._of_topic(topic).get(name)
        if subscription is None:
            raise SubscriptionNotFoundError(
                f"memory broker: the topic {topic!r} has no subscription {name!r}: subscribing "
                "creates it"
            )
        return subscription

    def _add_subscription(self, topic: str, name: str) -> Subscription:
        return self._own(topic, name).setdefault(name, Subscription())

    def _own(self, topic: str, name: str) -> dict[str, Subscription]:
        """Return a topic's subscriptions, unless `name` is one of another topic."""
        own = self._of_topic(topic)
        for other, subscriptions in self._topics.items():
            if name in subscriptions and subscriptions is not own:
                raise ConfigurationError(
                    f"memory broker: the subscription {name!r} belongs to the topic {other!r}: "
                    "choose another name"
                )
        return own

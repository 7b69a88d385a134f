"""Dead letters: looking at them, replaying them, throwing them away.

A broker cannot be searched: letters are received, and what is not wanted must stay. Receiving
without acknowledging shows letters and leaves them all (`read_letters`). Taking some out of the
middle is harder: on Kafka an acknowledged message behind one that is not comes again. So
`take_out` settles every letter it has read: what was selected goes where it shall go, the rest
goes back to the dead-letter topic unchanged, all of that is confirmed, and only then anything is
acknowledged. A kill at any point leaves letters twice, never none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from MessageBroker import limits
from MessageBroker.broker_interface import (
    DEAD_LETTER_SUFFIX,
    Subscription,
    dead_letter_topic,
    is_dead_letter_topic,
)
from MessageBroker.cloudevents import attribute, known_id, message_uuid
from MessageBroker.configuration import DeliverySettings
from MessageBroker.core import dead_letter as names
from MessageBroker.core.broker import BrokerCore
from MessageBroker.message import Message

# Read and settled together. More letters than this are done in several rounds.
MAX_ROUND_LETTERS = 100_000
MAX_ROUND_BYTES = 1024 * 1024 * 1024
# Where the broker cannot count, or counts more than comes, so long without a letter is taken for
# the end, ...
IDLE_SECONDS = 3.0
# ... but not before this time: what a reader held that was killed just before comes to another
# within the failover's 15 s.
FAILOVER_SECONDS = 15.5

# The handler's own limits are for applications; looking at letters holds all of them at once.
READING = DeliverySettings(
    max_outstanding_messages=MAX_ROUND_LETTERS, max_outstanding_bytes=MAX_ROUND_BYTES
)


@dataclass(frozen=True)
class Selection:
    """Which letters: all of those that fit every condition that is given.

    Attributes:
        ids: the letter's message id, the id of the message that it was, its CloudEvents id, or
            the one by which results know it: see `cloudevents.known_id`.
        reasons: `dead_letter_reason`.
    """

    ids: Collection[str] = ()
    reasons: Collection[str] = ()

    def takes(self, letter: Message) -> bool:
        """Tell whether `letter` is one of them."""
        if self.reasons and letter.attributes.get(names.REASON) not in self.reasons:
            return False
        return not self.ids or not _ids_of(letter).isdisjoint(self.ids)


@dataclass(frozen=True)
class Outcome:
    """What `replay` or `purge` did.

    Attributes:
        selected: letters replayed or purged.
        kept: letters that were read and stay.
        complete: False if more letters were there than could be told from new ones.
    """

    selected: int
    kept: int
    complete: bool


def read_letters(
    broker: BrokerCore, topic: str, patience: float = FAILOVER_SECONDS
) -> Iterator[Message]:
    """Receive all letters of `topic` without acknowledging: they stay as they are.

    Args:
        broker: a broker that was opened with the settings `READING`.
        topic: a topic, or its dead-letter topic.
        patience: seconds to look at least, unless the broker can count and all are there.

    Yields:
        At most `MAX_ROUND_LETTERS` letters.
    """
    with broker.subscribe(topic_of_letters(topic)) as subscription:
        yield from _Reader(broker, subscription, patience).letters()


def replay(
    broker: BrokerCore, topic: str, selection: Selection, patience: float = FAILOVER_SECONDS
) -> Outcome:
    """Publish the selected letters to the topics from which they came, and keep the rest.

    Args:
        broker: a broker that was opened with the settings `READING`.
        topic: a topic, or its dead-letter topic.
        selection: which letters.
        patience: as in `read_letters`.
    """

    def send(letter: Message) -> Future[str]:
        source = source_topic(letter)
        attributes = original_attributes(letter, broker.name, broker.cloudevents_prefix)
        return broker.publish_unchecked(source, letter.data, letter.key, attributes)

    return _take_out(broker, topic_of_letters(topic), selection, send, patience)


def purge(
    broker: BrokerCore, topic: str, selection: Selection, patience: float = FAILOVER_SECONDS
) -> Outcome:
    """Throw the selected letters away, and keep the rest. See `replay`."""
    return _take_out(broker, topic_of_letters(topic), selection, None, patience)


def topic_of_letters(topic: str) -> str:
    """Name the dead-letter topic of `topic`, which may be that topic itself."""
    return topic if is_dead_letter_topic(topic) else dead_letter_topic(topic)


def source_topic(letter: Message) -> str:
    """Name the topic from which a letter came."""
    return letter.attributes.get(names.SOURCE_TOPIC) or letter.topic.removesuffix(
        DEAD_LETTER_SUFFIX
    )


def original_attributes(letter: Message, broker_name: str, prefix: str) -> dict[str, str]:
    """Return a letter's attributes as they were before it became one.

    A message without a CloudEvents id is known by the UUID that `message_uuid` derives from its
    message id. Replayed, it has another message id; so it is given that UUID as its id, and
    whoever counts results by id still sees one message.

    Args:
        letter: the letter.
        broker_name: `kafka`, `pubsub` or `local`.
        prefix: the broker's `cloudevents_prefix`.
    """
    attributes = {name: value for name, value in letter.attributes.items() if name not in names.ALL}
    message_id = letter.attributes.get(names.MESSAGE_ID)
    if message_id and attribute(letter.attributes, "id") is None:
        attributes[f"{prefix}id"] = message_uuid(broker_name, source_topic(letter), message_id)
    return attributes


def describe(letter: Message) -> dict[str, Any]:
    """Say what a person wants to know of a letter; its body by its size."""
    return {
        "id": letter.id,
        "topic": letter.topic,
        "reason": letter.attributes.get(names.REASON, ""),
        "error": letter.attributes.get(names.ERROR, ""),
        "attempts": letter.attributes.get(names.ATTEMPTS, ""),
        "time": letter.attributes.get(names.TIME, letter.publish_time.isoformat()),
        "source_topic": source_topic(letter),
        "message_id": letter.attributes.get(names.MESSAGE_ID, ""),
        "event_id": attribute(letter.attributes, "id") or "",
        "subject": attribute(letter.attributes, "subject") or "",
        "key": letter.key,
        "bytes": len(letter.data),
        "attributes": {
            name: value for name, value in letter.attributes.items() if name not in names.ALL
        },
    }


def _ids_of(letter: Message) -> set[str | None]:
    attributes = letter.attributes
    return {
        letter.id,
        attributes.get(names.MESSAGE_ID) or None,
        attribute(attributes, "id"),
        known_id(attributes),
    }


# ---------------------------------------------------------------------- reading and settling


class _Reader:
    """Receives up to the end that stood when it began, in rounds of what may be held at once."""

    def __init__(self, broker: BrokerCore, subscription: Subscription, patience: float) -> None:
        self._subscription = subscription
        self._patience = patience
        self._came_later = broker.behind_the_end(subscription.topic)  # first: others publish
        self._unread = broker.backlog(subscription.topic, subscription.subscription_id)
        self._began = time.monotonic()
        self._held = 0
        self._held_bytes = 0
        self._returned: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether there may be more, but some must be settled first."""
        return self._held >= MAX_ROUND_LETTERS or self._held_bytes >= MAX_ROUND_BYTES

    def letters(self) -> Iterator[Message]:
        """Receive one round."""
        idle_since = time.monotonic()
        while not self.full and (self._unread is None or self._unread > 0):
            for letter in self._subscription.receive(1000, 0.2):
                self._held += 1
                self._held_bytes += len(letter.data)
                came_later = self._unread == 0 or self._came_later(letter)
                if came_later or letter.id in self._returned:
                    continue  # it stays un-acked
                idle_since = time.monotonic()
                if self._unread is not None:
                    self._unread -= 1
                yield letter
            if not self._subscription.ready:
                idle_since = time.monotonic()
            now = time.monotonic()
            if now - self._began > self._patience and now - idle_since > IDLE_SECONDS:
                return

    def settle(self, letters: Sequence[Message], returned: Iterable[str]) -> None:
        """Acknowledge a round; know those again that went back to the topic."""
        self._returned.update(returned)
        self._subscription.ack(letters)
        self._held -= len(letters)
        self._held_bytes -= sum(len(letter.data) for letter in letters)


def _take_out(
    broker: BrokerCore,
    topic: str,
    selection: Selection,
    send: Callable[[Message], Future[str]] | None,
    patience: float,
) -> Outcome:
    selected = kept = 0
    with broker.subscribe(topic) as subscription:
        reader = _Reader(broker, subscription, patience)
        while True:
            letters = list(reader.letters())
            taken = [letter for letter in letters if selection.takes(letter)]
            rest = [letter for letter in letters if not selection.takes(letter)]
            selected += len(taken)
            kept += len(rest)
            full = reader.full
            if taken or (letters and full):
                for letter in taken:
                    limits.check_name(source_topic(letter), "topic")
                sent = [send(letter) for letter in taken] if send is not None else []
                back = [
                    broker.publish_unchecked(topic, each.data, each.key, each.attributes)
                    for each in rest
                ]
                for future in sent:
                    future.result()
                reader.settle(letters, [future.result() for future in back])
            if not full or not letters:
                return Outcome(selected, kept, complete=not full)

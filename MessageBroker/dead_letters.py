"""Dead letters: looking at them, replaying them, throwing them away.

A broker cannot be searched: letters are received, and what is not wanted must stay. Receiving
without acknowledging shows letters and leaves them all (`read_letters`). Taking some out of the
middle is harder: on Kafka an acknowledged message behind one that is not comes again. So
`take_out` settles every letter it has read: what was selected goes where it shall go, the rest
goes back to the dead-letter topic unchanged, all of that is confirmed, and only then anything is
acknowledged. A kill at any point leaves letters twice, never none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
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
from MessageBroker.errors import MessageNotFoundError, MessageTooLargeError, PublishError
from MessageBroker.message import Message

# Read and settled together. More letters than this are done in several rounds.
MAX_ROUND_LETTERS = 100_000
MAX_ROUND_BYTES = 1024 * 1024 * 1024
# Of one call, so that the end is looked for often enough.
RECEIVE_LETTERS = 1000
RECEIVE_SECONDS = 0.2
# Where the broker cannot count, or counts more than comes, so long without a letter is taken for
# the end, ...
IDLE_SECONDS = 3.0
# ... but not before this time: what a reader held that was killed just before comes to another
# within the failover's 15 s.
FAILOVER_SECONDS = 15.5

# Why one letter cannot be sent home, while others can.
CANNOT_BE_SENT = (MessageNotFoundError, MessageTooLargeError, PublishError)

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

    def split(self, letters: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """Return those that it takes, and the others."""
        taken = [letter for letter in letters if self.takes(letter)]
        return taken, [letter for letter in letters if not self.takes(letter)]


@dataclass(frozen=True)
class Outcome:
    """What `replay` or `purge` did.

    Attributes:
        selected: letters replayed or purged.
        kept: letters that were read and stay.
        complete: False if more letters were there than could be told from new ones.
        failures: why letters that were selected stay.
    """

    selected: int
    kept: int
    complete: bool
    failures: Sequence[str] = ()


def read_letters(
    broker: BrokerCore, topic: str, patience: float = FAILOVER_SECONDS
) -> list[Message]:
    """Receive all letters of `topic` without acknowledging: they stay as they are.

    Args:
        broker: a broker that was opened with the settings `READING`.
        topic: a topic, or its dead-letter topic.
        patience: seconds to look at least, unless the broker can count and all are there.

    Returns:
        One round: at most `MAX_ROUND_LETTERS` letters.
    """
    with broker.subscribe(topic_of_letters(topic)) as subscription:
        return _Reader(broker, subscription, patience).read_round().letters


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

    def send(letter: Message) -> list[Future[str]]:
        source = source_topic(letter)
        limits.check_name(source, "topic")
        return [
            broker.publish_unchecked(source, each.data, each.key, each.attributes)
            for each in originals(broker, letter)
        ]

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


def originals(broker: BrokerCore, letter: Message) -> list[Message]:
    """Return the message that a letter was; those of a batch, where the letter stands for one.

    A letter without its body is read from the place that it names, and compared with what the
    letter says of it.

    Raises:
        MessageNotFoundError: it is not there any more, or another one is.
    """
    prefix = broker.cloudevents_prefix
    if names.has_body(letter.attributes):
        attributes = original_attributes(letter, broker.name, prefix)
        return [replace(letter, attributes=attributes)]
    source, place = source_topic(letter), letter.attributes.get(names.PLACE, "")
    if not place.startswith(f"{source}/"):
        raise MessageNotFoundError(f"the letter {letter.id} names no place in {source!r}")
    found = broker.read_place(place)
    digest = letter.attributes.get(names.SHA256)
    if digest is not None and digest != hashlib.sha256(found[0].data).hexdigest():
        raise MessageNotFoundError(f"what stands at {place!r} now is another message")
    return [_with_id(each, broker.name, prefix, source) for each in found]


def _with_id(message: Message, broker_name: str, prefix: str, source: str) -> Message:
    """Give a message without a CloudEvents id the one by which it is known; it gets another."""
    if attribute(message.attributes, "id") is not None:
        return message
    known = message_uuid(broker_name, source, message.id)
    return replace(message, attributes={**message.attributes, f"{prefix}id": known})


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
        "bytes": _size_of(letter),
        "place": letter.attributes.get(names.PLACE, ""),
        "attributes": {
            name: value for name, value in letter.attributes.items() if name not in names.ALL
        },
    }


def _size_of(letter: Message) -> int:
    """Return the size of the message that a letter was, as far as it is known."""
    told = letter.attributes.get(names.BYTES, "")
    return int(told) if told.isdecimal() and len(told) < 19 else len(letter.data)


def _ids_of(letter: Message) -> set[str | None]:
    attributes = letter.attributes
    return {
        letter.id,
        attributes.get(names.MESSAGE_ID) or None,
        attribute(attributes, "id"),
        known_id(attributes),
    }


# ---------------------------------------------------------------------- reading and settling


@dataclass(frozen=True)
class Round:
    """Letters that were read together, and are settled together.

    Attributes:
        letters: in the order of their arrival.
        full: whether there may be more, which come when these are settled.
    """

    letters: list[Message]
    full: bool


class _Reader:
    """Reads the letters that stood in a topic when it began: others publish meanwhile.

    Where the broker can count them it is as many as there were. The others are told by what the
    broker knows of its end, and, as they return to the same topic, by their ids.
    """

    def __init__(self, broker: BrokerCore, subscription: Subscription, patience: float) -> None:
        self._subscription = subscription
        self._came_later = broker.published_since_now(subscription.topic)  # first: others publish
        self._unread = broker.backlog(subscription.topic, subscription.subscription_id)
        self._patient_until = time.monotonic() + patience
        self._returned: set[str] = set()
        # Of those that came later, and stay un-acked: they count against the limits of a round.
        self._sizes_of_later: list[int] = []

    def read_round(self) -> Round:
        """Receive until all are there, nothing comes any more, or the round is full."""
        letters: list[Message] = []
        idle_since = time.monotonic()
        while not (full := self._is_full(letters)) and self._unread != 0:
            old = self._sort_out(self._subscription.receive(RECEIVE_LETTERS, RECEIVE_SECONDS))
            letters += old
            now = time.monotonic()
            if old or not self._subscription.ready:
                idle_since = now
            if not old and self._subscription.at_end:
                break  # what was counted and never came belongs to nobody
            if now > self._patient_until and now - idle_since > IDLE_SECONDS:
                break
        return Round(letters, full)

    def settle(self, letters: Sequence[Message], returned: Iterable[str]) -> None:
        """Acknowledge a round; know those again that went back to the topic."""
        self._returned.update(returned)
        self._subscription.ack(letters)

    def _sort_out(self, received: Sequence[Message]) -> list[Message]:
        old = []
        for letter in received:
            if self._unread == 0 or self._came_later(letter) or letter.id in self._returned:
                self._sizes_of_later.append(len(letter.data))
                continue
            old.append(letter)
            if self._unread is not None:
                self._unread -= 1
        return old

    def _is_full(self, letters: Sequence[Message]) -> bool:
        sizes = [*self._sizes_of_later, *(len(letter.data) for letter in letters)]
        return len(sizes) >= MAX_ROUND_LETTERS or sum(sizes) >= MAX_ROUND_BYTES


def _take_out(
    broker: BrokerCore,
    topic: str,
    selection: Selection,
    send_home: Callable[[Message], list[Future[str]]] | None,
    patience: float,
) -> Outcome:
    selected = kept = 0
    failures: dict[str, str] = {}
    with broker.subscribe(topic) as subscription:
        reader = _Reader(broker, subscription, patience)
        while True:
            read = reader.read_round()
            taken, rest = selection.split(read.letters)
            if send_home is not None:
                taken, failed = _send_home(taken, send_home)
                failures.update(failed)
                gone = {each.id for each in taken}
                rest = [each for each in read.letters if each.id not in gone]
            selected += len(taken)
            kept += len(rest)
            more = read.full and bool(read.letters)
            if taken or more:
                reader.settle(read.letters, _send_back(broker, topic, rest))
            if not more:
                return Outcome(selected, kept, not read.full, list(failures.values()))


def _send_home(
    letters: Sequence[Message], send: Callable[[Message], list[Future[str]]]
) -> tuple[list[Message], dict[str, str]]:
    """Send letters home; return those that are confirmed, and by id why others cannot be sent."""
    sent: list[tuple[Message, list[Future[str]]]] = []
    failures: dict[str, str] = {}
    for letter in letters:
        try:
            sent.append((letter, send(letter)))
        except CANNOT_BE_SENT as error:
            failures[letter.id] = f"{letter.id} stays: {error}"
    home: list[Message] = []
    for letter, futures in sent:
        try:
            for future in futures:
                future.result()
            home.append(letter)
        except CANNOT_BE_SENT as error:
            failures[letter.id] = f"{letter.id} stays: {error}"
    return home, failures


def _send_back(broker: BrokerCore, topic: str, letters: Sequence[Message]) -> list[str]:
    """Send letters back to their topic; return their ids, all confirmed."""
    back = [
        broker.publish_unchecked(topic, each.data, each.key, each.attributes) for each in letters
    ]
    return [future.result() for future in back]

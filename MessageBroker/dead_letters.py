"""Dead letters: looking at them, replaying them, throwing them away.

A broker cannot be searched: letters are received, and what is not wanted must stay. Receiving
without acknowledging shows letters and leaves them all (`read_letters`). Taking some out of the
middle is harder: on Kafka an acknowledged message behind one that is not comes again. So
`_take_out` settles every letter it has read: what was selected goes where it shall go, the rest
goes back to the dead-letter topic unchanged, all of that is confirmed, and only then anything is
acknowledged. A kill at any point leaves letters twice, never none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from MessageBroker import limits
from MessageBroker.broker_interface import dead_letter_topic, is_dead_letter_topic
from MessageBroker.cloudevents import attribute, known_id
from MessageBroker.configuration import DeliverySettings
from MessageBroker.core import dead_letter as names
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    MessageNotFoundError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.event_content import attributes_of
from MessageBroker.message import Message
from MessageBroker.original_message import originals, source_topic
from MessageBroker.subscription_interface import Subscription

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

# So long a broker may be away, or others may have all there is to read, before that is told.
AWAY_SECONDS = 60.0

# Why one letter cannot be sent home, while others can.
CANNOT_BE_SENT = (
    MessageNotFoundError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
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
        settled: the ids of the letters that were replayed or purged.
        kept: letters that were read and stay.
        complete: False if more letters were there than could be told from new ones.
        failures: by the ids of letters that were selected and stay, why.
    """

    settled: Sequence[str]
    kept: int
    complete: bool
    failures: Mapping[str, str]

    @property
    def selected(self) -> int:
        """How many were replayed or purged."""
        return len(self.settled)


@dataclass(frozen=True)
class Bounds:
    """How much is read at once.

    Attributes:
        letters: how many of them.
        bytes: of their bodies.
    """

    letters: int = MAX_ROUND_LETTERS
    bytes: int = MAX_ROUND_BYTES

    @property
    def settings(self) -> DeliverySettings:
        """With what a broker is opened that shall hand out so much."""
        return DeliverySettings(
            max_outstanding_messages=self.letters, max_outstanding_bytes=self.bytes
        )


@dataclass(frozen=True)
class Round:
    """Letters that were read together, and are settled together.

    Attributes:
        letters: in the order of their arrival.
        full: whether there may be more, which come when these are settled.
    """

    letters: list[Message]
    full: bool


# The handler's own limits are for applications; looking at letters holds all of them at once.
READING = Bounds().settings


def read_letters(
    broker: BrokerCore,
    topic: str,
    patience: float = FAILOVER_SECONDS,
    bounds: Bounds | None = None,
) -> Round:
    """Receive the letters of `topic` without acknowledging: they stay as they are.

    Args:
        broker: a broker that was opened with the settings of these bounds.
        topic: a topic, or its dead-letter topic.
        patience: seconds to look at least, unless the broker can count and all are there.
        bounds: how many; None for as many as a round may have.
    """
    with broker.subscribe(topic_of_letters(topic)) as subscription:
        return _Reader(broker, subscription, patience, bounds or Bounds()).read_round()


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
        try:
            limits.check_name(source, "topic")
        except ConfigurationError as error:  # whoever wrote the letter may have made it up
            raise MessageNotFoundError(f"it names no topic from which it came: {error}") from None
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


def _ids_of(letter: Message) -> set[str | None]:
    attributes, event = letter.attributes, attributes_of(letter)
    return {
        letter.id,
        attributes.get(names.MESSAGE_ID) or None,
        attribute(event, "id"),
        known_id(event),
    }


# ---------------------------------------------------------------------- reading and settling


class _Reader:
    """Reads the letters that stood in a topic when it began: others publish meanwhile.

    Where the broker can count them it is as many as there were. The others are told by what the
    broker knows of its end, and, as they return to the same topic, by their ids.
    """

    def __init__(
        self, broker: BrokerCore, subscription: Subscription, patience: float, bounds: Bounds
    ) -> None:
        self._subscription = subscription
        self._bounds = bounds
        self._came_later = broker.published_since_now(subscription.topic)  # first: others publish
        self._unread = broker.backlog(subscription.topic, subscription.subscription_id)
        self._patient_until = time.monotonic() + patience
        self._returned: set[str] = set()
        # Of those that came later, and stay un-acked: they count against the limits of a round.
        self._sizes_of_later: list[int] = []

    def read_round(self) -> Round:
        """Receive until all are there, nothing comes any more, or the round is full.

        Raises:
            BrokerUnavailableError: there was no hearing the broker for `AWAY_SECONDS`.
        """
        letters: list[Message] = []
        idle_since = ready_at = time.monotonic()
        while not (full := self._is_full(letters)) and self._unread != 0:
            old = self._sort_out(self._subscription.receive(RECEIVE_LETTERS, RECEIVE_SECONDS))
            letters += old
            now = time.monotonic()
            ready = self._subscription.ready
            if ready:
                ready_at = now
            elif now - ready_at > AWAY_SECONDS:
                raise BrokerUnavailableError(
                    f"{self._subscription.topic}: no answer for {AWAY_SECONDS:g} s, or others read "
                    "all its letters: what was not settled stays as it is; try again later"
                )
            if old or not ready:
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
        return len(sizes) >= self._bounds.letters or sum(sizes) >= self._bounds.bytes


def _take_out(
    broker: BrokerCore,
    topic: str,
    selection: Selection,
    send_home: Callable[[Message], list[Future[str]]] | None,
    patience: float,
) -> Outcome:
    settled: list[str] = []
    kept = 0
    failures: dict[str, str] = {}
    with broker.subscribe(topic) as subscription:
        reader = _Reader(broker, subscription, patience, Bounds())
        while True:
            read = reader.read_round()
            taken, rest = selection.split(read.letters)
            if send_home is not None:
                taken, failed = _send_home(taken, send_home)
                failures.update(failed)
                gone = {each.id for each in taken}
                rest = [each for each in read.letters if each.id not in gone]
            settled += [each.id for each in taken]
            kept += len(rest)
            more = read.full and bool(read.letters)
            if taken or more:
                reader.settle(read.letters, _send_back(broker, topic, rest))
            if not more:
                return Outcome(settled, kept, not read.full, failures)


def _send_home(
    letters: Sequence[Message], send: Callable[[Message], list[Future[str]]]
) -> tuple[list[Message], dict[str, str]]:
    """Send letters home; return those that are confirmed, and by id why others cannot be sent.

    Raises:
        TopicNotFoundError: none has a home any more.
    """
    sent: list[tuple[Message, list[Future[str]]]] = []
    failures: dict[str, BrokerError] = {}
    for letter in letters:
        try:
            sent.append((letter, send(letter)))
        except CANNOT_BE_SENT as error:
            failures[letter.id] = error
    home: list[Message] = []
    for letter, futures in sent:
        try:
            for future in futures:
                future.result()
            home.append(letter)
        except CANNOT_BE_SENT as error:
            failures[letter.id] = error
    if letters and all(isinstance(failures.get(each.id), TopicNotFoundError) for each in letters):
        raise failures[letters[0].id]
    return home, {letter: str(error) for letter, error in failures.items()}


def _send_back(broker: BrokerCore, topic: str, letters: Sequence[Message]) -> list[str]:
    """Send letters back to their topic; return their ids, all confirmed."""
    back = [
        broker.publish_unchecked(topic, each.data, each.key, each.attributes) for each in letters
    ]
    return [future.result() for future in back]

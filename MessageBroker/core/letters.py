"""The way of one subscription's messages to its dead-letter topic.

A letter is published, confirmed, and only then its message is acknowledged. A message that the
topic does not take as it is goes there without its body, see `dead_letter.without_body`. Where the
topic is away for now its letters wait here, beside the messages that flow on; where it is refused
for good, the application is told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.core.dead_letter import dead_letter_attributes, short_key, without_body
from MessageBroker.core.driver import Stream
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.message import SETTLED, Delivery, Message

logger = logging.getLogger(__name__)

# How long whoever moves messages waits for the broker's confirmations (s). A healthy one answers
# in milliseconds; what flows beside a dead-letter topic that is away must not wait longer.
PATIENCE_SECONDS = 10.0
# How long closing waits for letters that a healthy topic is about to confirm (s).
LAST_ANSWERS_SECONDS = 2.0
# What no waiting cures, and no other form of the letter.
REFUSED = (AuthenticationError, ConfigurationError, TopicNotFoundError)
# What may be cured by leaving something out.
UNFIT = (MessageTooLargeError, PublishError)

FORMS = ("whole", "without the body", "without the body and the message's own attributes")

# Topic, body, key and attributes.
LetterPublisher = Callable[[str, bytes, str | None, dict[str, str]], "Future[str]"]


@dataclass(eq=False)
class Letter:
    """A message on its way to the dead-letter topic.

    Attributes:
        message: the message.
        reason: why, the same for the same fault.
        error: the details.
        unread: its body could not be read: there is none to send.
        forms_tried: in how many of `FORMS` it was refused.
        posted_at: when it was first published, in monotonic seconds.
        answer: of the broker.
    """

    message: Message
    reason: str
    error: str
    unread: bool
    forms_tried: int = 0
    posted_at: float = field(default_factory=time.monotonic)
    answer: Future[str] = field(default_factory=Future)

    def failure(self) -> BaseException | None:
        """Return why it was not sent; None if it was."""
        return self.answer.exception()


class Letters:
    """Publishes letters, and knows those that wait. Its methods are for any thread."""

    def __init__(self, topic: str, stream: Stream, publish: LetterPublisher) -> None:
        """Begin with none.

        Args:
            topic: from which the messages come.
            stream: knows their places.
            publish: publishes to a topic, past the limits of applications.
        """
        self._topic = topic
        self._to = dead_letter_topic(topic)
        self._stream = stream
        self._publish = publish
        self._waiting: dict[Delivery, Letter] = {}
        self._is_told = False  # that some wait

    # ------------------------------------------------------------------ those that wait

    def __len__(self) -> int:
        """Count the letters that wait."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """The bytes of data of those that wait."""
        return sum(each.size for each in tuple(self._waiting))

    def holds(self, delivery: Delivery) -> bool:
        """Tell whether a message's letter waits."""
        return delivery in self._waiting

    def wait_for(self, letters: Sequence[Letter]) -> None:
        """Keep letters that were not answered yet, for `answered`."""
        self._waiting.update((each.message.delivery, each) for each in letters)
        self._tell()

    def _tell(self) -> None:
        """Say, once, that letters wait for so long that it is no healthy topic's doing."""
        waiting = tuple(self._waiting.values())  # the oldest first; another thread may add some
        if self._is_told or not waiting:
            return
        if time.monotonic() - waiting[0].posted_at < PATIENCE_SECONDS:
            return
        self._is_told = True
        logger.error(
            "%d messages wait for %s, which has not taken them in %g s; others flow on",
            len(waiting),
            self._to,
            PATIENCE_SECONDS,
        )

    def await_last_answers(self) -> None:
        """Give letters on their way the time that a topic needs which is not away.

        Their messages would come again, and have a second letter.
        """
        if not self._is_told:
            wait([each.answer for each in tuple(self._waiting.values())], LAST_ANSWERS_SECONDS)

    def answered(self) -> list[Letter]:
        """Return letters that waited, and do no longer; forget those of lost messages."""
        done: list[Letter] = []
        for delivery, letter in tuple(self._waiting.items()):
            if delivery.state in SETTLED:
                del self._waiting[delivery]
            elif self._is_answered(letter, 0.0):
                del self._waiting[delivery]
                done.append(letter)
        self._tell()
        if self._is_told and not self._waiting:
            self._is_told = False
            logger.info("%s takes letters again", self._to)
        return done

    # ------------------------------------------------------------------ sending

    def send(self, letters: Sequence[Letter], patience: float | None = None) -> Iterator[Letter]:
        """Publish letters; yield those that were answered in time.

        While others wait already, nobody waits for these.

        Args:
            letters: all are published, in time or not.
            patience: seconds; None for `PATIENCE_SECONDS`.
        """
        for letter in letters:
            self._post(letter)
        patience = PATIENCE_SECONDS if patience is None else patience
        deadline = time.monotonic() + (0.0 if self._waiting else patience)
        for letter in letters:
            if self._is_answered(letter, max(0.0, deadline - time.monotonic())):
                yield letter

    def tell_failures(self, failed: Sequence[Letter]) -> BrokerError | None:
        """Log why letters were not sent; return the error if that is for good."""
        if not failed:
            return None
        failures = [each.failure() for each in failed]
        refused = [each for each in failures if isinstance(each, (*REFUSED, *UNFIT))]
        if refused:
            assert isinstance(refused[0], BrokerError)
            return refused[0]
        logger.error(
            "%d messages could not be moved to %s and stay un-acked: %s",
            len(failed),
            self._to,
            failures[0],
        )
        return None

    def _is_answered(self, letter: Letter, seconds: float) -> bool:
        """Wait for the broker's answer; send the letter in another form if this one is refused."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                letter.answer.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return False
            except UNFIT:
                if letter.forms_tried == len(FORMS) - 1:
                    return True
                letter.forms_tried += 1
                self._post(letter)
            except BrokerError:
                return True
            else:
                return True

    def _post(self, letter: Letter) -> None:
        try:
            letter.answer = self._publish(self._to, *self._form_of(letter))
        except BrokerError as error:
            letter.answer = Future()
            letter.answer.set_exception(error)

    def _form_of(self, letter: Letter) -> tuple[bytes, str | None, dict[str, str]]:
        message = letter.message
        whole = not letter.forms_tried and not letter.unread
        way_back = "" if whole else self._stream.way_back(message)
        attributes = dead_letter_attributes(
            message.attributes,
            topic=self._topic,
            message_id=message.id,
            attempts=message.delivery_attempt,
            reason=letter.reason,
            error=f"{way_back}; {letter.error}" if way_back else letter.error,
        )
        if whole:
            return message.data, message.key, attributes
        fitting = without_body(
            attributes,
            self._stream.place_of(message),
            None if letter.unread else message.data,
            bare=letter.forms_tried == len(FORMS) - 1,
        )
        return b"", short_key(message.key), fitting

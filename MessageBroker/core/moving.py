"""Moves messages of one subscription to its dead-letter topic, and settles them.

Whoever moves a message keeps all others off it until its letter is confirmed and it is
acknowledged, or the letter failed and it waits to be handed out again. A letter that its topic
does not take yet is settled later, by the thread that keeps the leases.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.core import dead_letter as names
from MessageBroker.core.driver import Stream
from MessageBroker.core.letters import Letter, Letters
from MessageBroker.errors import BrokerError
from MessageBroker.message import IN_HAND, SETTLED, Delivery, DeliveryState, Message

logger = logging.getLogger(__name__)

UNREAD_REASON = "unreadable record"


class Moving:
    """What is on its way to the dead-letter topic. Its methods are for any thread.

    Attributes:
        unread: why the body of a message cannot be read.
        moved: how many letters were confirmed, in whatever way they came to be written.
    """

    def __init__(
        self,
        subscription_id: str,
        stream: Stream,
        letters: Letters,
        lock: threading.RLock,
        hold: Callable[[Message, float | None], None],
        ack: Callable[[Sequence[Message]], None],
    ) -> None:
        """Begin with none.

        Args:
            subscription_id: whose messages they are.
            stream: knows their places, and which bodies cannot be read.
            letters: publishes them.
            lock: guards the state of all deliveries.
            hold: lets a message be handed out again, after None for the longest back-off.
            ack: acknowledges messages.
        """
        self.unread: dict[Delivery, str] = {}
        self.moved = 0
        self._subscription_id = subscription_id
        self._stream = stream
        self._letters = letters
        self._lock = lock
        self._hold = hold
        self._ack = ack
        self._refusal: BrokerError | None = None  # found out between two calls
        stream.on_unread = self._note_unread

    @property
    def letters_waiting(self) -> int:
        """How many letters wait for a topic that is away."""
        return len(self._letters)

    @property
    def bytes_waiting(self) -> int:
        """The bytes of data of those that wait."""
        return self._letters.size

    def raise_refusal(self) -> None:
        """Tell, once, that a letter which waited was refused for good."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    # ------------------------------------------------------------------ moving

    def move(
        self,
        messages: Sequence[Message],
        reason: str,
        errors: Sequence[str],
        *,
        unread: bool = False,
        patience: float | None = None,
    ) -> int:
        """Publish a letter for each that is not settled, then acknowledge it.

        Args:
            messages: of this subscription.
            reason: why, the same for all.
            errors: the details of each.
            unread: whether there is no body to send.
            patience: seconds to wait for the topic, beyond which the letters wait beside; None
                for as long as a healthy one takes at most.

        Returns:
            How many were moved at once; others may wait for the topic.

        Raises:
            BrokerError: the topic refuses them for good.
        """
        error_of = {each.delivery: error for each, error in zip(messages, errors, strict=True)}
        moving = self._begin(messages)
        sending = [Letter(each, reason, error_of[each.delivery], unread) for each in moving]
        answered: list[Letter] = []
        refusal: BrokerError | None = None
        try:
            answered = list(self._letters.send(sending, patience))
            refusal = self._settle(answered)
            self._letters.wait_for([each for each in sending if each not in answered])
        finally:  # also after a Ctrl-C: nobody else would hand them out again
            self._hold_unmoved(moving)
        if refusal is not None:
            raise refusal
        return sum(each.failure() is None for each in answered)

    def look_at_letters(self) -> None:
        """Settle those that waited and are answered now."""
        answered = self._letters.answered()
        if answered:
            refusal = self._settle(answered)
            self._refusal = refusal or self._refusal
            self._hold_unmoved([each.message for each in answered])

    def finish(self) -> None:
        """Settle what is answered soon; the rest comes again."""
        self._letters.await_last_answers()
        self.look_at_letters()

    def _begin(self, messages: Sequence[Message]) -> list[Message]:
        """Choose those that are not settled, each once, and keep everybody else off them."""
        moving: list[Message] = []
        lost = 0
        with self._lock:
            for message in messages:
                delivery = message.delivery
                lost += delivery.state is DeliveryState.LOST
                if delivery.state in IN_HAND or delivery.state is DeliveryState.HELD:
                    delivery.state = DeliveryState.MOVING
                    moving.append(message)
        if lost:
            logger.warning(
                "%d messages of %s were not dead-lettered: they are no longer this consumer's, and "
                "come again to whoever has them now",
                lost,
                self._subscription_id,
            )
        return moving

    def _settle(self, answered: Sequence[Letter]) -> BrokerError | None:
        """Acknowledge what was moved; return why the rest was refused, if that is for good."""
        moved = [each for each in answered if each.failure() is None]
        with self._lock:
            self.moved += len(moved)
        self._ack([each.message for each in moved])
        unread = [each for each in moved if each.unread]
        if unread:
            logger.error(
                "%d records that cannot be read were dead-lettered, the first at %s: %s",
                len(unread),
                self._stream.place_of(unread[0].message),
                unread[0].error,
            )
        return self._letters.tell_failures([each for each in answered if each.failure()])

    def _hold_unmoved(self, messages: Sequence[Message]) -> None:
        with self._lock:
            for message in messages:
                delivery = message.delivery
                if delivery.state is DeliveryState.MOVING and not self._letters.holds(delivery):
                    self._hold(message, None)

    # ------------------------------------------------------------------ what cannot be read

    def move_unread(self, messages: Sequence[Message], patience: float) -> None:
        """Move away those whose body cannot be read.

        Args:
            messages: readable ones, too.
            patience: see `move`.

        Raises:
            BrokerError: see `move`.
        """
        unread = [each for each in messages if each.delivery in self.unread]
        errors = [self.unread[each.delivery] for each in unread]
        try:
            self.move(unread, UNREAD_REASON, errors, unread=True, patience=patience)
        finally:
            for delivery in [each for each in self.unread if each.state in SETTLED]:
                del self.unread[delivery]

    def _note_unread(self, message: Message, error: str) -> None:
        if is_dead_letter_topic(message.topic):
            # A letter that cannot be read any more is what there is of it.
            message.attributes.update({names.BODY: names.ABSENT, names.ERROR: error})
            message.attributes[names.PLACE] = self._stream.place_of(message)
        else:
            self.unread[message.delivery] = error

"""`Subscription`, written once for every broker over the handler's `Stream`."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from DurableText.program.forks import Opener
from MessageBroker.broker_interface import is_dead_letter_topic
from MessageBroker.configuration import DeliverySettings
from MessageBroker.core.dead_letter import texts_of
from MessageBroker.core.driver import Stream
from MessageBroker.core.ending import Ending
from MessageBroker.core.lease_keeper import LeaseKeeper
from MessageBroker.core.letters import LetterPublisher, Letters
from MessageBroker.core.moving import Moving
from MessageBroker.core.outage import Outage
from MessageBroker.core.outstanding import Outstanding
from MessageBroker.core.redelivery import Redelivery
from MessageBroker.errors import (
    BrokerError,
    BrokerReplacedError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
)
from MessageBroker.message import IN_HAND, SETTLED, Message
from MessageBroker.subscription_interface import Subscription

logger = logging.getLogger(__name__)

# How soon a waiting receive notices a nack, an ack or a close by another thread.
WAIT_SLICE_SECONDS = 0.1
# How long to pause after a fetch found the broker away; the client libraries back off themselves.
OUTAGE_PAUSE_SECONDS = 0.5
# Attempts are remembered for messages that were lost to a rebalance and may come back.
MAX_REMEMBERED_ATTEMPTS = 100_000
# What giving back may take where the broker does not answer, or a receive is under way (s). Leases
# end by themselves a little later.
CLOSE_SECONDS = 10.0
EXHAUSTED_REASON = "max_delivery_attempts"


class SubscriptionCore(Subscription):
    """Nack, back-off, attempts, dead letters, back-pressure and life cycle over a `Stream`.

    `_lock` guards the state of all deliveries. `_receiving` is held during a fetch, so that
    `close` never pulls the stream away under it. The stream is called without `_lock`.
    """

    def __init__(
        self,
        topic: str,
        subscription_id: str,
        stream: Stream,
        settings: DeliverySettings,
        publish_dead_letter: LetterPublisher,
        on_close: Callable[[SubscriptionCore], None],
        outage: Outage,
    ) -> None:
        """Begin to keep its leases; nothing is fetched yet.

        Args:
            topic: whose messages it brings.
            subscription_id: its id.
            stream: the handler's part of it, which this closes.
            settings: back-off, attempts, limits.
            publish_dead_letter: publishes to a topic, past the limits of applications.
            on_close: told of this when it is closed.
            outage: told when the broker is away.
        """
        self.topic = topic
        self.subscription_id = subscription_id
        self._stream = stream
        self._settings = settings
        self._on_close = on_close
        self._outage = outage
        self._opener = Opener(f"the subscription {subscription_id!r}", ConfigurationError)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._receiving = threading.Lock()
        self._redelivery = Redelivery()
        self._outstanding = Outstanding(
            subscription_id, self._redelivery, settings.max_lease_seconds
        )
        self._moving = Moving(
            subscription_id,
            stream,
            Letters(topic, stream, publish_dead_letter),
            self._lock,
            self._hold,
            self.ack,
        )
        self._leases = LeaseKeeper(
            stream, self._outstanding, self._changed, outage, self._moving.look_at_letters
        )
        self._nacks: dict[str, int] = {}  # by message id
        self._acks_under_way = 0
        self._closed = threading.Event()

    # ------------------------------------------------------------------ receive

    def receive(self, max_messages: int, timeout: float) -> list[Message]:
        if max_messages < 1:
            raise ValueError(f"max_messages must be at least 1, not {max_messages}")
        self._opener.require()
        deadline = time.monotonic() + timeout
        while True:
            messages = self._receive_once(max_messages, deadline)
            if self._moving.unread:
                messages = self._without_unread(messages, deadline)
            if messages or time.monotonic() >= deadline:
                return messages

    def _receive_once(self, max_messages: int, deadline: float) -> list[Message]:
        with self._receiving:
            with self._lock:
                self._require_open()
                self._moving.raise_refusal()
                now = time.monotonic()
                messages = self._redelivery.take_due(max_messages, now)
                wait = 0.0
                if not messages:
                    wake = min(deadline, self._redelivery.next_due(), now + WAIT_SLICE_SECONDS)
                    wait = max(0.0, wake - now)
                room, room_bytes = self._room()
                room = min(room, max_messages - len(messages))
                if room < 1 or room_bytes < 1:
                    if wait:
                        self._changed.wait(wait)
                    return messages
            try:
                fetched = self._fetch(room, room_bytes, wait)
            except BrokerError:
                if not messages:
                    raise
                fetched = []  # what was taken from memory first; the next call meets the error
            with self._lock:
                if not self._closed.is_set():
                    return messages + self._admit(fetched)
            self._leases.release([message.delivery for message in fetched])
            raise self._closed_error()

    def _room(self) -> tuple[int, int]:
        """Return how many messages and bytes may be handed out.

        Letters that wait have as much room of their own, and beyond it nothing comes.
        """
        room = self._settings.max_outstanding_messages - len(self._outstanding)
        room_bytes = self._settings.max_outstanding_bytes - self._outstanding.size
        waiting, size = self._moving.letters_waiting, self._moving.bytes_waiting
        if not waiting:
            return room, room_bytes
        if (
            waiting >= self._settings.max_outstanding_messages
            or size >= self._settings.max_outstanding_bytes
        ):
            return 0, 0
        return room + waiting, room_bytes + size

    def _fetch(self, max_messages: int, max_bytes: int, wait: float) -> list[Message]:
        try:
            fetched = self._stream.fetch(max_messages, max_bytes, wait)
        except BrokerUnavailableError as error:
            self._outage.begin(self, error)
            self._closed.wait(min(wait, OUTAGE_PAUSE_SECONDS))
            return []
        self._outage.end(self)
        return fetched

    def _admit(self, fetched: Sequence[Message]) -> list[Message]:
        """Take over new deliveries; return those that need not wait behind a nacked one."""
        messages = self._outstanding.add(fetched)
        if self._nacks:
            messages = [self._with_attempts(each) for each in messages]
        if not self._redelivery:
            return messages
        admitted: list[Message] = []
        for message in messages:
            if self._redelivery.holds_back(message.key):
                self._redelivery.hold(message, due=0.0)
            else:
                admitted.append(message)
        return admitted

    def _without_unread(self, messages: Sequence[Message], deadline: float) -> list[Message]:
        """Move away those whose body cannot be read; return the others."""
        readable = [each for each in messages if each.delivery not in self._moving.unread]
        try:
            self._moving.move_unread(messages, max(0.0, deadline - time.monotonic()))
        except BaseException:  # the next call hands them out
            for message in readable:
                self._hold(message, 0.0)
            raise
        return readable

    def _with_attempts(self, message: Message) -> Message:
        nacks = self._nacks.get(message.id)
        return message if nacks is None else replace(message, delivery_attempt=1 + nacks)

    # ------------------------------------------------------------------ settle

    def ack(self, messages: Sequence[Message]) -> None:
        self._opener.require()
        with self._lock:
            messages = self._outstanding.require(messages)
            if self._nacks:
                for message in messages:
                    if message.delivery.state not in SETTLED:
                        self._nacks.pop(message.id, None)
            settled, late = self._outstanding.settle(messages)
            self._leases.late_acks += late
            self._acks_under_way += 1
            self._changed.notify_all()
        try:
            if settled:
                self._leases.acknowledge(settled)
        finally:
            with self._lock:
                self._acks_under_way -= 1
                self._changed.notify_all()

    def nack(self, messages: Sequence[Message], delay: float | None = None) -> None:
        self._opener.require()
        if delay is not None and math.isnan(delay):
            raise ValueError("delay must be a number of seconds, not nan")
        exhausted: list[Message] = []
        with self._lock:
            for message in self._outstanding.require(messages):
                if message.delivery.state not in IN_HAND:
                    continue
                nacks = self._count_nack(message.id)
                if nacks >= self._settings.max_delivery_attempts and self._has_dead_letters:
                    exhausted.append(message)
                else:
                    self._hold_after_nack(message, nacks, delay)
            self._changed.notify_all()
        if exhausted:
            error = f"nacked {self._settings.max_delivery_attempts} times"
            self._moving.move(exhausted, EXHAUSTED_REASON, [error] * len(exhausted))

    def dead_letter(
        self,
        messages: Sequence[Message],
        reason: str,
        error: BaseException | str | Sequence[BaseException | str] = "",
    ) -> int:
        if not self._has_dead_letters:
            raise ConfigurationError(
                f"{self.topic!r} holds dead letters itself: ack or nack them, or purge them with "
                "`python -m MessageBroker dead-letters purge`"
            )
        self._opener.require()
        self._require_open()
        with self._lock:
            messages = self._outstanding.require(messages)
        errors = texts_of(reason, error, len(messages))
        return self._moving.move(messages, reason, errors)

    @property
    def _has_dead_letters(self) -> bool:
        return not is_dead_letter_topic(self.topic)

    def _hold(self, message: Message, delay: float | None) -> None:
        """Hand a message out again after a delay in seconds; None for the longest back-off."""
        delay = self._settings.max_backoff if delay is None else delay
        with self._lock:
            self._redelivery.hold(message, due=time.monotonic() + delay if delay else 0.0)

    def _count_nack(self, message_id: str) -> int:
        nacks = self._nacks.pop(message_id, 0) + 1
        self._nacks[message_id] = nacks  # last in the dict: the longest unused is dropped first
        if len(self._nacks) > MAX_REMEMBERED_ATTEMPTS:
            del self._nacks[next(iter(self._nacks))]
        return nacks

    def _hold_after_nack(self, message: Message, nacks: int, delay: float | None) -> None:
        if delay is None:
            backoff = self._settings.min_backoff * 2.0 ** min(nacks - 1, 30)
            delay = min(backoff, self._settings.max_backoff) * random.uniform(0.8, 1.0)
        again = replace(message, delivery_attempt=nacks + 1)
        self._redelivery.hold(again, due=time.monotonic() + delay)

    # ------------------------------------------------------------------ life cycle

    @property
    def late_acks(self) -> int:
        return self._leases.late_acks

    @property
    def outstanding(self) -> int:
        with self._lock:
            return len(self._outstanding)

    @property
    def overdue(self) -> int:
        return self._leases.overdue

    @property
    def at_end(self) -> bool:
        """True if all that stood in the topic came to this consumer, where a broker can tell."""
        return self._stream.at_end

    @property
    def letters_waiting(self) -> int:
        return self._moving.letters_waiting

    @property
    def dead_lettered(self) -> int:
        return self._moving.moved

    @property
    def ready(self) -> bool:
        away = self._outage.affects(self) or self._outage.affects(self._leases)
        return not away and not self._closed.is_set() and self._stream.ready

    def close(self) -> None:
        self.await_closed(self.begin_to_close(), CLOSE_SECONDS)

    def begin_to_close(self) -> Ending | None:
        """Close it, and begin to give back what is un-acked; None if that was done before."""
        if self._opener.is_another_process:
            return None  # a child that ends: the parent goes on
        with self._lock:
            if self._closed.is_set():
                return None
            self._closed.set()
            self._changed.notify_all()
        return Ending(self._give_back, f"closing {self.subscription_id}")

    def await_closed(self, ending: Ending | None, seconds: float) -> None:
        """Wait until all was given back, for so long only; say so if it was not."""
        if ending is not None and not ending.wait(seconds):
            logger.warning(
                "%s: what is un-acked was not given back within %g s: the broker does not answer, "
                "or a receive is still under way; it comes again once its lease has ended",
                self.subscription_id,
                seconds,
            )

    def _give_back(self) -> None:
        self._moving.finish()  # while the leases are kept
        self._leases.stop()
        with self._receiving:
            self._leases.await_acks()
            with self._lock:
                self._changed.wait_for(lambda: self._acks_under_way == 0)
                given_back = self._leases.lose_all()
            try:
                self._stream.close(given_back)
            except BrokerReplacedError:
                pass  # receive has told
            except BrokerError as error:  # its lease ends what could not be given back
                logger.warning("%s was closed all the same: %s", self.subscription_id, error)
        self._outage.leave(self)
        self._on_close(self)

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the subscription {self.subscription_id!r} was closed")

"""What silence may mean to a consumer: the broker is away, or this process stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from MessageBroker.core.clocks import boot_time
from MessageBroker.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    TopicNotFoundError,
    topic_not_found,
)
from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.committed_offsets import GroupTopic
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.hearing import Hearing

# After so long without a message the broker is asked whether it is there (s).
PROBE_INTERVAL_SECONDS = 3.0
PROBE_TIMEOUT_SECONDS = 1.0


class Probe:
    """Asks whether the broker and the topic are there, when nothing has come for a while.

    Where the broker is there, the consumer's own client is asked, too: see `Hearing`.

    Attributes:
        failure: that the topic is gone, once it was missed and asked for.
    """

    def __init__(
        self,
        admin: KafkaAdmin,
        consumed: GroupTopic,
        events: ClientEvents,
        hearing: Hearing,
    ) -> None:
        """Begin as if the broker had just answered.

        Args:
            admin: asks by another connection than the consumer's: there, requests wait behind
                fetches.
            consumed: its topic is asked for.
            events: told what comes of it.
            hearing: whether the consumer's own client hears of the broker.
        """
        self._admin = admin
        self._consumed = consumed
        self._events = events
        self._hearing = hearing
        self.failure: BrokerError | None = None
        self._failed = False
        self._last_answer = time.monotonic()

    def answered(self) -> None:
        """Note that something came from the broker: no probe has failed since."""
        self._failed = False
        self._last_answer = time.monotonic()
        self._hearing.heard()
        if self._events.away:
            self._events.answered()

    def look(self) -> None:
        """Ask, if the last answer is long ago, or the topic was missed."""
        if self._events.topic_missed and self.failure is None:
            self._look_for_the_topic()
        if time.monotonic() - self._last_answer <= PROBE_INTERVAL_SECONDS:
            return
        try:
            found = self._admin.topic_id(self._consumed.topic, PROBE_TIMEOUT_SECONDS)
        except AuthenticationError:  # an answer, all the same; what is fetched says the rest
            self._failed = False
            self._last_answer = time.monotonic()
            return
        except BrokerUnavailableError:
            # Once is little: on a busy machine an answer may take longer than a probe waits.
            self._events.away = self._events.away or self._failed
            self._failed = True
            self._hearing.missed()
            return
        self._failed = False
        self._last_answer = time.monotonic()
        self._events.answered()
        self._events.topic_missed = found != self._consumed.topic_id
        self._hearing.others_heard()

    def _look_for_the_topic(self) -> None:
        """Find out whether it is there still, when it was missed: a new leader may not know it yet.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        where = self._consumed.where
        try:
            found = self._admin.topic_id(self._consumed.topic)
        except BrokerUnavailableError:
            raise
        except BrokerError as error:
            self.failure = error
            return
        if found is None:
            self.failure = topic_not_found(f"{where}: the topic was deleted", self._consumed.topic)
        elif found != self._consumed.topic_id:
            self.failure = TopicNotFoundError(
                f"{where}: the topic was deleted, and another one of its name was made: start again"
            )
        else:
            self._events.topic_missed = False


class Standstill:
    """Notices that this process was stopped, or the machine asleep.

    It wakes with partitions that others may have had since. Acks that were taken before the client
    has noticed would seem to count.
    """

    def __init__(self, seconds: float, on_wake: Callable[[], None]) -> None:
        """Begin to watch.

        Args:
            seconds: how long nobody may call `notice` before that means that all stood still.
            on_wake: called by the first `notice` after that; others wait until it returns.
        """
        self._seconds = seconds
        self._on_wake = on_wake
        self._lock = threading.Lock()
        self._last_sign = boot_time()

    def notice(self) -> None:
        """Give a sign of life; called before anything is fetched or settled, and in between."""
        with self._lock:
            if boot_time() - self._last_sign > self._seconds:
                self._on_wake()
            self._last_sign = boot_time()

"""What a script holds from its start to its end, whatever its work is."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from DurableText.installation import NAME, __version__
from DurableText.program.wording import counted
from MessageBroker import BrokerInterface, Message, Subscription
from MessageBroker.configuration import DeliverySettings, TopicNames, read_broker_config
from Pipeline.observability.metrics import Metrics, Sources
from Pipeline.observability.tracing import Tracing
from Pipeline.observability.waiting import NOT_ASSIGNED, Reason, Waiting
from Pipeline.script import waiting
from Pipeline.script.room import once_there_is_room
from Pipeline.script.start_up import Server, once_it_answers, open_broker, subscribe
from Pipeline.script.work import Work
from Pipeline.stop import POLL_SECONDS, IdleClock, Stop
from Pipeline.tally import Tally

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Script:
    """The context of one script: `run_script` makes it, `main` and the steps of the work use it.

    Attributes:
        options: the command line.
        stop: whether it shall end.
        waiting: what it waits for right now.
        metrics: what it tells of itself while it runs.
        tracing: the spans of its work.
        tally: what it has done.
    """

    options: argparse.Namespace
    stop: Stop = field(default_factory=Stop)
    waiting: Waiting = field(default_factory=Waiting)
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=Tracing)
    tally: Tally = field(default_factory=Tally)

    @functools.cached_property
    def work(self) -> Work:
        """What its main thread leaves to another one."""
        return Work(self.stop, self.waiting)

    @property
    def topics(self) -> TopicNames:
        """The names of the two topics, as the configuration has them."""
        return read_broker_config(self.options.config_dir).topics

    @property
    def delivery(self) -> DeliverySettings:
        """How messages are delivered, as the configuration has it."""
        return read_broker_config(self.options.config_dir).delivery

    def broker(self, *topics: str) -> AbstractContextManager[BrokerInterface]:
        """Connect to the broker and create `topics`; see `open_broker`."""
        return open_broker(self.options, self.stop, self.waiting, topics)

    def once_there_is_room(self, attempt: Callable[[], Result], reason: Reason) -> Result:
        """Open something, waiting out a full disk; see `room.once_there_is_room`."""
        return once_there_is_room(attempt, reason, self.stop, self.waiting)

    def once_it_answers(self, attempt: Callable[[float], Result], server: Server) -> Result:
        """Try for `--wait-for-broker` seconds; see `start_up.once_it_answers`."""
        seconds = self.options.wait_for_broker
        return once_it_answers(attempt, server, seconds, self.stop, self.waiting)

    @contextlib.contextmanager
    def at_work(self, sources: Sources, last_line: Callable[[Tally], str]) -> Iterator[None]:
        """Let the metrics follow the work; tell which version works, and at its end what was done.

        However it ends.

        Args:
            sources: where the numbers of the metrics come from.
            last_line: puts the tally into words.
        """
        logger.info("at work: %s %s", NAME, __version__)
        try:
            with self.metrics.follow(sources, self.tally):
                yield
        finally:
            print(last_line(self.tally), flush=True)

    def subscribe(self, broker: BrokerInterface, topic: str) -> Subscription:
        """Consume `topic`; see `start_up.subscribe`."""
        subscription = self.once_there_is_room(
            lambda: subscribe(broker, self.options, self.stop, self.waiting, topic), Reason.BROKER
        )
        self.tally.messages_dead_lettered = lambda: subscription.dead_lettered
        return subscription

    def begin_batch(self, size: int) -> None:
        """Count a batch of `size` that is worked on from now."""
        self.tally.begin()
        self.metrics.batch(size)

    def receive(
        self, subscription: Subscription, most: Callable[[], int] | None = None
    ) -> Iterator[list[Message]]:
        """Yield what comes until a stop or `--exit-when-idle`.

        Args:
            subscription: where from.
            most: tells how many at a time, each time; None for `--batch-size`.
        """
        clock = IdleClock(self.options.exit_when_idle)
        letters = 0
        while not self.stop.requested and not clock.expired:
            size = most() if most is not None else self.options.batch_size
            messages = subscription.receive(size, POLL_SECONDS)
            letters = self._tell_letters(subscription, letters)
            if not self._could_receive(subscription):
                clock.restart()
            if messages:
                self.begin_batch(len(messages))
                yield messages
                clock.restart()

    def _could_receive(self, subscription: Subscription) -> bool:
        """Tell whether nothing came because nothing is there; say what is waited for."""
        ready = subscription.ready
        if ready:
            self.waiting.end(Reason.BROKER)
        else:
            self.waiting.begin(Reason.BROKER, NOT_ASSIGNED)
        return ready and not subscription.outstanding

    def _tell_letters(self, subscription: Subscription, before: int) -> int:
        """Say whether letters wait, beside the messages that flow on; return how many."""
        letters = subscription.letters_waiting
        if letters:
            self.waiting.begin(
                Reason.DEAD_LETTER,
                f"{counted(letters, 'dead letter')} of {subscription.topic} cannot be sent",
            )
        elif before or not subscription.outstanding:  # what was not moved away has gone elsewhere
            self.waiting.end(Reason.DEAD_LETTER)
        return letters

    def wait_out(
        self, trouble: Mapping[type[Exception], Reason], attempt: Callable[[], Result]
    ) -> Result | None:
        """Try until it works or the script shall stop; see `waiting.wait_out`."""
        return waiting.wait_out(trouble, attempt, self.stop, self.waiting)

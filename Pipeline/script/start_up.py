"""The way to the broker and other servers, which may come up later than the script does."""

from __future__ import annotations

import argparse
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from DurableText.storage import lacks_room
from MessageBroker import (
    BrokerInterface,
    BrokerUnavailableError,
    MessageBrokerFactory,
    Subscription,
)
from Pipeline.observability.waiting import Reason, Waiting
from Pipeline.script.room import once_there_is_room
from Pipeline.stop import Stop, StoppedError

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# One look whether the broker is there.
PING_SECONDS = 10.0
PING_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def open_broker(
    options: argparse.Namespace, stop: Stop, waiting: Waiting, topics: Sequence[str]
) -> Iterator[BrokerInterface]:
    """Create the broker's handler, wait until it answers, create `topics`; close it at the end.

    Raises:
        BrokerUnavailableError: it did not answer within `--wait-for-broker` seconds.
        ConfigurationError, AuthenticationError: waiting would not help.
    """
    broker = once_there_is_room(
        lambda: _connect(options, stop, waiting, topics), Reason.BROKER, stop, waiting
    )
    try:
        yield broker
    finally:
        broker.close(timeout=stop.grace_left)


def _connect(
    options: argparse.Namespace, stop: Stop, waiting: Waiting, topics: Sequence[str]
) -> BrokerInterface:
    broker = MessageBrokerFactory.get_broker(options.broker, config_dir=options.config_dir)

    def attempt(left: float) -> list[str]:
        broker.ping(timeout=min(PING_SECONDS, max(1.0, left)))
        # Which somebody else may have to answer than the ping.
        return [topic for topic in topics if broker.create_topic(topic)]

    server = Server(BrokerUnavailableError, Reason.BROKER, {"broker": broker.name})
    try:
        for topic in once_it_answers(attempt, server, options.wait_for_broker, stop, waiting):
            logger.info("created the topic %s", topic)
    except BaseException:
        broker.close(timeout=0.0)
        raise
    return broker


def subscribe(
    broker: BrokerInterface, options: argparse.Namespace, stop: Stop, waiting: Waiting, topic: str
) -> Subscription:
    """Subscribe to `topic` as `--subscription` says, waiting for whoever keeps its place.

    On Kafka that is the group's coordinator, another broker perhaps than those that were asked.

    Raises:
        BrokerUnavailableError: it did not answer within `--wait-for-broker` seconds.
    """
    return once_it_answers(
        lambda _left: broker.subscribe(topic, options.subscription),
        Server(BrokerUnavailableError, Reason.BROKER, {"broker": broker.name}),
        options.wait_for_broker,
        stop,
        waiting,
    )


@dataclass(frozen=True)
class Server:
    """A server that may come up later than the script does.

    Attributes:
        away: what is raised while it is away.
        reason: what is waited for then.
        named: the same, in the log.
    """

    away: type[Exception]
    reason: Reason
    named: Mapping[str, str]


def once_it_answers(
    attempt: Callable[[float], Result], server: Server, seconds: float, stop: Stop, waiting: Waiting
) -> Result:
    """Try until a server answers; tell once who is waited for.

    Args:
        attempt: is given how many seconds are left.
        server: which one.
        seconds: of waiting at most; then what it raises while it is away is raised.
        stop: ends the waiting.
        waiting: told what is waited for.

    Raises:
        StoppedError: the script shall stop.
    """
    deadline = time.monotonic() + seconds
    told = False
    try:
        while True:
            try:
                return attempt(deadline - time.monotonic())
            except server.away as error:
                if stop.requested:
                    raise StoppedError from error
                if time.monotonic() >= deadline or lacks_room(error):  # see `once_there_is_room`
                    raise
                if not told:
                    logger.warning(
                        "%s; waiting for it for %g seconds",
                        error,
                        seconds,
                        extra={"event": "outage", **server.named, "seconds": seconds},
                    )
                told = True
                waiting.begin(server.reason, str(error))
                stop.wait(PING_PAUSE_SECONDS)
    finally:
        if told:  # else somebody may wait for the same already, and longer
            waiting.end(server.reason)

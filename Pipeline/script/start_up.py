"""The way to the broker, when a script starts: it may come up later than the script does."""

from __future__ import annotations

import argparse
import contextlib
import logging
import time
from collections.abc import Iterator

from MessageBroker import BrokerInterface, BrokerUnavailableError, MessageBrokerFactory
from Pipeline.stop import Stop, StoppedError

logger = logging.getLogger(__name__)

# One look whether the broker is there.
PING_SECONDS = 10.0
PING_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def open_broker(options: argparse.Namespace, stop: Stop, topic: str) -> Iterator[BrokerInterface]:
    """Create the broker's handler, wait until it answers, create `topic`; close it at the end.

    Raises:
        BrokerUnavailableError: it did not answer within `--wait-for-broker` seconds.
        ConfigurationError, AuthenticationError: waiting would not help.
    """
    broker = MessageBrokerFactory.get_broker(options.broker, config_dir=options.config_dir)
    try:
        _wait_until_it_answers(broker, options.wait_for_broker, stop)
        if broker.create_topic(topic):
            logger.info("created the topic %s", topic)
    except BaseException:
        broker.close(timeout=0.0)
        raise
    try:
        yield broker
    finally:
        broker.close(timeout=stop.grace_left)


def _wait_until_it_answers(broker: BrokerInterface, seconds: float, stop: Stop) -> None:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            left = deadline - time.monotonic()
            broker.ping(timeout=min(PING_SECONDS, max(1.0, left)))
        except BrokerUnavailableError as error:
            if stop.requested:
                raise StoppedError from error
            if time.monotonic() >= deadline:
                raise
            if not told:
                logger.warning(
                    "%s; waiting for it for %g seconds",
                    error,
                    seconds,
                    extra={"event": "outage", "broker": broker.name, "seconds": seconds},
                )
            told = True
            stop.wait(PING_PAUSE_SECONDS)
        else:
            return

"""What comes to a consumer, batch by batch, until its end: from a subscription or the queue."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from MessageBroker import BrokerError, BrokerInterface, Message, Subscription
from Pipeline.observability.metrics import Metrics
from Pipeline.script.life_cycle import PING_SECONDS
from Pipeline.stop import POLL_SECONDS, Stop
from Queue import Batch, FileQueue

logger = logging.getLogger(__name__)


class IdleClock:
    """Tells when nothing has come for long enough to end; never, without a limit."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._since = time.monotonic()

    def restart(self) -> None:
        """Something came, or nothing could come."""
        self._since = time.monotonic()

    @property
    def expired(self) -> bool:
        """True once nothing has come for the limit."""
        return self._limit is not None and time.monotonic() - self._since >= self._limit


def receive_batches(
    subscription: Subscription, options: argparse.Namespace, stop: Stop
) -> Iterator[list[Message]]:
    """Yield what comes, up to `--batch-size` at a time, until a stop or `--exit-when-idle`."""
    clock = IdleClock(options.exit_when_idle)
    while not stop.requested and not clock.expired:
        messages = subscription.receive(options.batch_size, POLL_SECONDS)
        if messages or not subscription.ready:
            clock.restart()
        if messages:
            yield messages
            clock.restart()


def take_batches(
    queue: FileQueue,
    broker: BrokerInterface,
    options: argparse.Namespace,
    stop: Stop,
    metrics: Metrics,
) -> Iterator[Batch]:
    """Yield what the queue holds, as `receive_batches`; stand by while another publisher takes.

    The clock of `--exit-when-idle` runs only while something could go through: not while this one
    stands by, nor while the broker is away.
    """
    clock = IdleClock(options.exit_when_idle)
    since = time.monotonic()
    at_work = stood_by = False
    timeout = 0.0  # at first only a look: whose turn is it?
    while not stop.requested:
        batch = queue.take(options.batch_size, timeout)
        timeout = POLL_SECONDS
        if not at_work:
            at_work = queue.active
            metrics.standing_by(not at_work)
            clock.restart()
            if at_work:
                if stood_by:
                    log_take_over(options.queue, time.monotonic() - since)
                logger.info("ready: from %s", options.queue)
            stood_by = not at_work
        if batch:
            yield batch
            clock.restart()
        elif clock.expired:
            if _answers(broker):
                return
            clock.restart()


def log_take_over(path: Path, seconds: float) -> None:
    """Tell that this process works on a file from now on, in the place of another one."""
    logger.info(
        "%s: taken over, after %.1f seconds of standing by",
        path,
        seconds,
        extra={"event": "take-over", "file": str(path), "seconds": round(seconds, 3)},
    )


def _answers(broker: BrokerInterface) -> bool:
    try:
        broker.ping(PING_SECONDS)
    except BrokerError:
        return False
    return True

"""What the queue holds, batch by batch, until the publisher's end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from MessageBroker import BrokerInterface, BrokerUnavailableError
from Pipeline.observability.waiting import Reason
from Pipeline.script.script import Script
from Pipeline.script.start_up import PING_SECONDS
from Pipeline.serving.standby import Turn
from Pipeline.stop import POLL_SECONDS, IdleClock
from Queue import QueueBatch, QueueUnavailableError, ResultQueue

logger = logging.getLogger(__name__)


def take_batches(
    script: Script, queue: ResultQueue, broker: BrokerInterface
) -> Iterator[QueueBatch]:
    """Yield what the queue holds, as `Script.receive`; stand by while another publisher takes.

    The clock of `--exit-when-idle` runs only while something could go through: not while this one
    stands by, nor while queue or broker are away; and nothing may be left that another publisher
    has taken, for it comes here if that one dies.
    """
    options = script.options
    clock = IdleClock(options.exit_when_idle)
    turn = Turn(options.queue, script.metrics)
    at_work = False
    timeout = 0.0  # at first only a look: whose turn is it?

    def take() -> QueueBatch:
        try:
            return queue.take(options.batch_size, timeout)
        except QueueUnavailableError:
            clock.restart()
            raise

    while not script.stop.requested:
        batch = script.wait_out({QueueUnavailableError: Reason.QUEUE}, take)
        if batch is None:
            return
        timeout = POLL_SECONDS
        if queue.active and not at_work:
            turn.begin()
            logger.info("ready: from %s", options.queue)
        at_work = queue.active
        if not at_work:  # yet, or any more: one that hung is superseded
            turn.wait()
            clock.restart()
        if batch:
            script.begin_batch(len(batch.records))
            yield batch
            clock.restart()
        elif clock.expired:
            if _is_done(script, queue, broker):
                return
            clock.restart()


def commit(script: Script, queue: ResultQueue, batch: QueueBatch) -> None:
    """Commit a batch, waiting out what passes; at a stop it stays, and comes again."""

    def attempt() -> bool:
        queue.commit(batch)
        return True

    script.wait_out({QueueUnavailableError: Reason.QUEUE}, attempt)


def _is_done(script: Script, queue: ResultQueue, broker: BrokerInterface) -> bool:
    """Tell whether nothing is left that could go through; wait where that cannot be found out."""

    def look() -> bool:
        if queue.status().depth > 0:
            return False
        broker.ping(PING_SECONDS)
        return True

    trouble = {QueueUnavailableError: Reason.QUEUE, BrokerUnavailableError: Reason.BROKER}
    return bool(script.wait_out(trouble, look))

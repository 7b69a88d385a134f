"""model_server_pub: publishes the queue's results to `inference_topic`.

Examples:
    python model_server_pub.py
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from Pipeline.script import first_signals

    first_signals.require_posix()
    first_signals.end_quietly()

import argparse
import contextlib
import functools
import logging

from MessageBroker import BrokerInterface, MessageTooLargeError, OutgoingMessage, PublishError
from MessageBroker.limits import cut
from Pipeline.events import inference_events
from Pipeline.observability.tracing import open_tracing
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import open_broker, open_metrics, run_script, topic_names
from Pipeline.script.tally import Tally
from Pipeline.script.waiting import within_grace
from Pipeline.serving.batches import take_batches
from Pipeline.serving.publishing import publish_what_is_taken
from Pipeline.stop import Stop
from Queue import CorruptLine, FileQueue

logger = logging.getLogger("model_server_pub")

CORRUPT_LINE = "corrupt line in the queue"
UNPUBLISHABLE = "cannot be published"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("model_server_pub", "Publish the results in the queue.")
    opt.add_consumer_options(parser)
    opt.add_queue_option(parser)
    return parser


def main(options: argparse.Namespace, stop: Stop) -> None:
    """Take, publish, wait for the broker's confirmation, commit; until told to stop."""
    topic = topic_names(options).inferences
    tally = Tally()
    with contextlib.ExitStack() as stack:
        tracing = stack.enter_context(open_tracing("model_server_pub"))
        metrics = stack.enter_context(open_metrics("model_server_pub", options, stop))
        queue = stack.enter_context(FileQueue(options.queue))
        broker = stack.enter_context(open_broker(options, stop, topic))
        stack.callback(print_summary, tally)
        stack.enter_context(metrics.follow(broker, tally, queue=options.queue))
        for batch in take_batches(queue, broker, options, stop, metrics):
            tally.begin()
            with tracing.spans("publish result", batch.records):
                prefix = broker.cloudevents_prefix
                events = inference_events(batch.records, prefix=prefix)
                refused = within_grace(functools.partial(publish, broker, topic, events), stop)
            for line in batch.corrupt:
                within_grace(functools.partial(dead_letter, broker, topic, line), stop)
            tally.dead_lettered += refused + len(batch.corrupt)
            queue.commit(batch)
            tally.add(len(batch.records) - refused)
            metrics.batch(len(batch.records))


def print_summary(tally: Tally) -> None:
    """Say what was done, however the script ends."""
    print(
        f"model_server_pub: {tally.done:,} results published{tally.rate}, "
        f"{tally.dead_lettered} dead-lettered",
        flush=True,
    )


def publish(broker: BrokerInterface, topic: str, events: list[OutgoingMessage]) -> int:
    """Publish results, and dead-letter those that the broker will never take.

    The queue hands out in order: one result that stays would keep all others from being published.

    Returns:
        How many were dead-lettered.
    """
    refusals = publish_what_is_taken(broker, topic, events)
    for error in refusals.values():
        if not isinstance(error, (PublishError, MessageTooLargeError)):
            raise error  # it is this program that the broker refuses, not a result
    for i, error in refusals.items():
        # Its attributes may be what the broker refuses.
        attributes = {name: cut(value) for name, value in (events[i].attributes or {}).items()}
        broker.publish_dead_letter(
            topic, events[i].data, reason=UNPUBLISHABLE, error=error, attributes=attributes
        ).result()
        told = {"reason": UNPUBLISHABLE, "error": str(error), "number": 1}
        logger.warning(
            "a result was dead-lettered: %s: %s",
            UNPUBLISHABLE,
            error,
            extra={"event": "dead-letter", **told},
        )
    return len(refusals)


def dead_letter(broker: BrokerInterface, topic: str, line: CorruptLine) -> None:
    """Publish a line that the queue could not read, as it stands there."""
    place = {"file": line.file, "offset": str(line.offset)}
    broker.publish_dead_letter(
        topic, line.raw, reason=CORRUPT_LINE, error=line.reason, attributes=place
    ).result()
    told = {"reason": CORRUPT_LINE, "error": line.reason, "number": 1, **place}
    logger.warning(
        "%s, offset %d: dead-lettered: %s",
        line.file,
        line.offset,
        line.reason,
        extra={"event": "dead-letter", **told},
    )


if __name__ == "__main__":
    run_script("model_server_pub", parser(), main)

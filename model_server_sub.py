"""model_server_sub: consumes images, classifies them, appends the results to the queue.

Examples:
    python model_server_sub.py
    python model_server_sub.py --checkpoint mine.keras --threads 2
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from Pipeline.script import first_signals

    first_signals.require_posix()
    first_signals.end_quietly()
    first_signals.survive_hangup()

import argparse
import contextlib
import logging

from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from Pipeline.observability.tracing import open_tracing
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import open_broker, open_metrics, run_script, topic_names
from Pipeline.script.tally import Tally
from Pipeline.serving.batches import receive_batches
from Pipeline.serving.in_flight import InFlight
from Pipeline.serving.live_model import LiveModel
from Pipeline.serving.model_server import ModelServer, Outcome, Received
from Pipeline.serving.stages import Stages
from Pipeline.stop import Stop
from Queue import FileQueue

logger = logging.getLogger("model_server_sub")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("model_server_sub", "Classify images.")
    opt.add_consumer_options(parser)
    opt.add_subscription_option(parser)
    opt.add_queue_option(parser)
    parser.add_argument(
        "--checkpoint",
        type=opt.path,
        metavar="FILE",
        default=DEFAULT_CHECKPOINT,
        help=".h5 or .keras of Keras",
    )
    parser.add_argument(
        "--threads", type=opt.threads, metavar="N", help="of the model; default: all cores"
    )
    return parser


def main(options: argparse.Namespace, stop: Stop) -> None:
    """Receive, predict and store, overlapping, until told to stop."""
    topic = topic_names(options).images
    tally = Tally()
    with contextlib.ExitStack() as stack:
        tracing = stack.enter_context(open_tracing("model_server_sub"))
        metrics = stack.enter_context(open_metrics("model_server_sub", options, stop))
        models = stack.enter_context(LiveModel(options.checkpoint, options.threads, stop))
        models.on_signal()
        queue = stack.enter_context(FileQueue(options.queue))
        in_flight = stack.enter_context(contextlib.closing(InFlight(options.queue)))
        broker = stack.enter_context(open_broker(options, stop, topic))
        subscription = stack.enter_context(broker.subscribe(topic, options.subscription))
        server = ModelServer(
            subscription, models, queue, in_flight, broker.name, stop, metrics, tracing
        )
        stack.enter_context(
            metrics.follow(
                broker,
                server.counts,
                subscription=subscription,
                queue=options.queue,
                models=models,
            )
        )

        def store(outcome: Outcome) -> None:
            before = server.counts.predicted
            server.store(outcome)
            tally.add(server.counts.predicted - before)

        stages = Stages(stop, server.predict, store)
        logger.info("ready: %s, from %s", models.version, subscription.subscription_id)
        try:
            for messages in receive_batches(subscription, options, stop):
                tally.begin()
                metrics.batch(len(messages))
                stages.put(Received(messages))
        finally:
            stages.finish()
    print(
        f"model_server_sub: {server.counts.predicted:,} images classified{tally.rate}, "
        f"{server.counts.dead_lettered} dead-lettered"
    )


if __name__ == "__main__":
    run_script("model_server_sub", parser(), main)

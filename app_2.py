"""app_2: consumes the results from `inference_topic` and stores them in its text-file DB.

Examples:
    python app_2.py
    python app_2.py --subscription audit --db audit.txt      a second, independent copy
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from Pipeline.script import first_signals

    first_signals.require_posix()
    first_signals.end_quietly()

import argparse
import contextlib
import logging

from Pipeline.observability.tracing import open_tracing
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import open_broker, open_metrics, run_script, topic_names
from Pipeline.script.tally import Tally
from Pipeline.serving.batches import receive_batches
from Pipeline.serving.result_store import ResultStore, open_db
from Pipeline.stop import Stop

logger = logging.getLogger("app_2")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("app_2", "Store the results.")
    opt.add_consumer_options(parser)
    opt.add_subscription_option(parser)
    parser.add_argument(
        "--db", type=opt.path, metavar="FILE", default=opt.DEFAULT_DB, help="the DB's text file"
    )
    return parser


def main(options: argparse.Namespace, stop: Stop) -> None:
    """Receive, store durably, ack; until told to stop."""
    topic = topic_names(options).inferences
    tally = Tally()
    with contextlib.ExitStack() as stack:
        tracing = stack.enter_context(open_tracing("app_2"))
        metrics = stack.enter_context(open_metrics("app_2", options, stop))
        # First the lock: a second app_2 on this DB stands by, and takes no messages from the first.
        db = stack.enter_context(open_db(options.db, stop, metrics))
        broker = stack.enter_context(open_broker(options, stop, topic))
        subscription = stack.enter_context(broker.subscribe(topic, options.subscription))
        store = ResultStore(db, subscription, stop, metrics, tracing)
        stack.enter_context(
            metrics.follow(broker, store.counts, subscription=subscription, db=options.db)
        )
        logger.info("ready: into %s", options.db)
        for messages in receive_batches(subscription, options, stop):
            tally.begin()
            metrics.batch(len(messages))
            before = store.counts.stored
            store.store(messages)
            tally.add(store.counts.stored - before)
    counts = store.counts
    print(
        f"app_2: {counts.stored:,} results stored{tally.rate}, {counts.duplicates} duplicates "
        f"suppressed, {counts.conflicts} conflicts, {counts.dead_lettered} dead-lettered"
    )


if __name__ == "__main__":
    run_script("app_2", parser(), main)

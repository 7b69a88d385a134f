"""app_2: consumes the results from `inference_topic` and stores them in its text-file DB.

Examples:
    python app_2.py
    python app_2.py --subscription audit --db audit.txt      a second, independent copy
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.require_posix()
    first_signals.end_quietly()
    first_signals.survive_hangup()

import argparse
import logging

from DurableText.program.option_types import count, positive
from DurableText.program.wording import counted
from Pipeline.observability.metrics import Sources
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import run_script
from Pipeline.script.script import Script
from Pipeline.serving.result_store import ResultStore, open_db
from Pipeline.tally import Tally

logger = logging.getLogger("app_2")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("app_2", __doc__ or "")
    opt.add_consumer_options(parser)
    opt.add_subscription_option(parser)
    opt.add_db_option(parser)
    group = parser.add_argument_group("parts of a text DB")
    group.add_argument(
        "--rotate-bytes", type=count, metavar="N", help="begin a new part at so many bytes"
    )
    group.add_argument(
        "--rotate-days", type=positive, metavar="N", help="begin a new part after so many days"
    )
    group.add_argument(
        "--keep",
        type=count,
        metavar="N",
        help="remove older parts but so many; their ids are known no more (default: keep all)",
    )
    return parser


def main(script: Script) -> None:
    """Receive, store durably, ack; until told to stop."""
    options, topic = script.options, script.topics.inferences
    with (
        # First the lock: a second app_2 on this DB stands by, and takes no messages from the first.
        open_db(script) as db,
        script.broker(topic) as broker,
        script.subscribe(broker, topic) as subscription,
        script.at_work(Sources(broker, subscription, db=options.db), last_line),
    ):
        store = ResultStore(script, db, subscription)
        logger.info("ready: into %s", db.name)

        def store_all() -> None:
            for messages in script.receive(subscription):
                store.store(messages)

        script.work.do(store_all)


def last_line(tally: Tally) -> str:
    """Say what was done."""
    return (
        f"app_2: {counted(tally.done, 'result')} stored{tally.rate}, "
        f"{counted(tally.duplicates, 'duplicate')} suppressed, "
        f"{counted(tally.conflicts, 'conflict')}, {tally.dead_lettered} dead-lettered"
    )


if __name__ == "__main__":
    run_script("app_2", parser(), main)

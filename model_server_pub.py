"""model_server_pub: publishes the queue's results to `inference_topic`.

Examples:
    python model_server_pub.py
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.require_posix()
    first_signals.end_quietly()
    first_signals.survive_hangup()

import argparse

from DurableText.program.wording import counted
from Pipeline.observability.metrics import Sources
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import run_script
from Pipeline.script.script import Script
from Pipeline.serving.batches import commit, take_batches
from Pipeline.serving.queue_place import open_result_queue
from Pipeline.serving.result_publisher import ResultPublisher
from Pipeline.tally import Tally


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("model_server_pub", __doc__ or "")
    opt.add_consumer_options(parser)
    opt.add_queue_option(parser)
    return parser


def main(script: Script) -> None:
    """Take, publish, wait for the broker's confirmation, commit; until told to stop."""
    options, topic = script.options, script.topics.inferences
    with (
        open_result_queue(script) as queue,
        script.broker(topic) as broker,
        script.at_work(Sources(broker, queue=options.queue), last_line),
    ):
        publisher = ResultPublisher(script, broker, topic)

        def publish_all() -> None:
            for batch in take_batches(script, queue, broker):
                published = publisher.publish(batch)
                commit(script, queue, batch)
                script.tally.add(published)

        script.work.do(publish_all)


def last_line(tally: Tally) -> str:
    """Say what was done."""
    return (
        f"model_server_pub: {counted(tally.done, 'result')} published{tally.rate}, "
        f"{tally.dead_lettered} dead-lettered"
    )


if __name__ == "__main__":
    run_script("model_server_pub", parser(), main)

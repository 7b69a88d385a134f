"""app_1: publishes images to `new_image_topic`.

Examples:
    python app_1.py                          the 10,000 bundled MNIST test images
    python app_1.py photo.jpg scans/         files, and folders of them
    python app_1.py --count 50 --rate 5      50 images, 5 a second
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.require_posix()
    first_signals.end_quietly()
    first_signals.survive_hangup()

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from DurableText.program.option_types import count, path_name, positive
from DurableText.program.wording import counted
from Pipeline.observability.metrics import Sources
from Pipeline.observability.waiting import Reason
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import run_script
from Pipeline.script.script import Script
from Pipeline.serving.confirmed_ids import ConfirmedIds
from Pipeline.serving.image_publisher import ImagePublisher
from Pipeline.serving.image_source import ImageSource
from Pipeline.serving.pacing import paced_groups
from Pipeline.stop import ScriptError
from Pipeline.tally import Tally


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("app_1", __doc__ or "")
    parser.add_argument(
        "images",
        nargs="*",
        type=path_name,
        metavar="IMAGE or FOLDER",
        help="default: the 10,000 bundled test images",
    )
    parser.add_argument(
        "--count",
        type=count,
        metavar="N",
        help="how many; beyond the input it starts over (default: each once)",
    )
    parser.add_argument(
        "--rate", type=positive, metavar="IMAGES_PER_SECOND", help="default: as fast as it goes"
    )
    parser.add_argument(
        "--ids", type=path_name, metavar="FILE", help="append each confirmed id to it"
    )
    return parser


def main(script: Script) -> None:
    """Publish all images; end when the broker has confirmed them."""
    options, topic = script.options, script.topics.images
    source = ImageSource(options.images, options.count)
    with (
        contextlib.closing(open_ids(script)) as ids_file,
        script.broker(topic) as broker,
        script.at_work(Sources(broker), functools.partial(last_line, len(source))),
        shown(len(source)) as progress,
    ):
        broker.prepare_publishing(topic)
        publisher = ImagePublisher(script, broker, topic)

        def publish_all() -> None:
            for group in paced_groups(source, options.rate, script.stop):
                confirmed = publisher.publish(group)
                progress(len(group))
                ids_file.append(confirmed, script)
                if publisher.refusal is not None:
                    raise publisher.refusal

        script.work.do(publish_all)
    if script.tally.failed:
        raise ScriptError(f"not published: {counted(script.tally.failed, 'image')}")


@contextlib.contextmanager
def shown(total: int) -> Iterator[Callable[[int], object]]:
    """Show a terminal how many of `total` images are through; yield what to tell of more."""
    if not sys.stderr.isatty():  # no progress to show; to import it is a tenth of the start
        yield lambda _more: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" images") as progress:
        yield progress.update


def open_ids(script: Script) -> ConfirmedIds:
    """Open the file of the confirmed ids; without one they go nowhere."""
    path = script.options.ids or Path(os.devnull)
    return script.once_there_is_room(lambda: ConfirmedIds(path), Reason.IDS)


def last_line(total: int, tally: Tally) -> str:
    """Say what is published: what is not counted here is not."""
    of = counted(total, "image")
    return f"app_1: {tally.done:,} of {of} confirmed{tally.rate}, {tally.failed} failed"


if __name__ == "__main__":
    run_script("app_1", parser(), main)

"""app_1: publishes images to `new_image_topic`.

Examples:
    python app_1.py                          the 10,000 bundled MNIST test images
    python app_1.py photo.jpg scans/         files, and folders of them
    python app_1.py --count 50 --rate 5      50 images, 5 a second
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
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from DurableText.moments import timestamp
from MessageBroker import BrokerInterface, OutgoingMessage
from Pipeline.events import image_event
from Pipeline.observability.tracing import Tracing, open_tracing
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import open_broker, open_metrics, run_script, topic_names
from Pipeline.script.tally import Tally
from Pipeline.script.waiting import within_grace
from Pipeline.serving.image_source import ImageSource, SourceImage
from Pipeline.serving.publishing import publish_what_is_taken
from Pipeline.stop import ScriptError, Stop

logger = logging.getLogger("app_1")

# Published and confirmed together: enough to spread a round trip, small enough for a smooth start.
GROUP_SIZE = 256
# Photographs have megabytes: a group of them takes no further one beyond this.
GROUP_BYTES = 16 * 1024 * 1024


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("app_1", "Publish images.")
    parser.add_argument(
        "images",
        nargs="*",
        type=opt.path,
        metavar="IMAGE or FOLDER",
        help="default: the 10,000 bundled test images",
    )
    parser.add_argument(
        "--count",
        type=opt.count,
        metavar="N",
        help="how many; beyond the input it starts over (default: each once)",
    )
    parser.add_argument(
        "--rate", type=opt.positive, metavar="IMAGES_PER_SECOND", help="default: as fast as it goes"
    )
    parser.add_argument(
        "--ids", type=opt.path, metavar="FILE", help="append each confirmed id to it"
    )
    return parser


def main(options: argparse.Namespace, stop: Stop) -> None:
    """Publish all images; end when the broker has confirmed them."""
    source = ImageSource(options.images, options.count)
    topic = topic_names(options).images
    tally = Tally()
    with contextlib.ExitStack() as stack:
        tracing = stack.enter_context(open_tracing("app_1"))
        metrics = stack.enter_context(open_metrics("app_1", options, stop))
        ids_file = stack.enter_context(open_ids(options.ids)) if options.ids else None
        broker = stack.enter_context(open_broker(options, stop, topic))
        stack.callback(print_summary, tally, len(source))
        stack.enter_context(metrics.follow(broker, tally))
        progress = stack.enter_context(tqdm(total=len(source), unit=" images", disable=None))
        for group in paced_groups(source, options.rate, stop):
            tally.begin()
            confirmed = within_grace(
                functools.partial(publish, broker, topic, group, tracing), stop
            )
            tally.failed += len(group) - len(confirmed)
            tally.add(len(confirmed))
            metrics.batch(len(group))
            progress.update(len(group))
            if ids_file is not None:
                ids_file.writelines(f"{each}\n" for each in confirmed)
                ids_file.flush()
    if tally.failed:
        raise ScriptError(f"{tally.failed} images were not published")


def open_ids(path: Path) -> TextIO:
    """Open the file of the confirmed ids to append to it, making its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise ScriptError(f"--ids {path} cannot be written: {error.strerror}") from error


def print_summary(tally: Tally, total: int) -> None:
    """Say what is published, however the script ends: what is not counted here is not."""
    print(
        f"app_1: {tally.done:,} of {total:,} images confirmed{tally.rate}, {tally.failed} failed",
        flush=True,
    )


def publish(
    broker: BrokerInterface,
    topic: str,
    group: list[tuple[SourceImage, str]],
    tracing: Tracing,
) -> list[str]:
    """Publish a group; return the event ids of those that the broker has confirmed."""
    for image, _ in group:
        if image.trouble is not None:
            logger.error("%s was not published: %s", image.subject, image.trouble)
    group = [each for each in group if each[0].trouble is None]
    events: list[tuple[str, OutgoingMessage]] = [
        image_event(
            image.data,
            prefix=broker.cloudevents_prefix,
            subject=image.subject,
            content_type=image.content_type,
            expected_label=image.expected_label,
            time=when,
        )
        for image, when in group
    ]
    with tracing.spans("publish image", [each.attributes for _, each in events], root=True):
        refusals = publish_what_is_taken(broker, topic, [message for _, message in events])
    for i, error in refusals.items():
        logger.error("%s was not published: %s", group[i][0].subject, error)
    return [event_id for i, (event_id, _) in enumerate(events) if i not in refusals]


def paced_groups(
    source: ImageSource, rate: float | None, stop: Stop
) -> Iterator[list[tuple[SourceImage, str]]]:
    """Yield images as they are due, each with the time at which it was meant to be sent.

    An open loop: a broker that is slow for a while does not slow the schedule, and what has
    become due meanwhile goes at once. The clock starts when the first image is confirmed, since
    connecting (half a second with Kafka) is no part of the load.
    """
    images = iter(source)
    if rate is not None:
        yield [(image, timestamp()) for image in islice(images, 1)]
    start, started_at = time.monotonic(), datetime.now(UTC)
    sent = 0 if rate is None else 1
    while sent < len(source) and not stop.requested:
        due = GROUP_SIZE
        if rate is not None:
            due = int(min((time.monotonic() - start) * rate, len(source))) + 1 - sent
            if due < 1:
                stop.wait(start + sent / rate - time.monotonic())
                continue
        group = gather(images, min(due, GROUP_SIZE))
        if rate is None:
            times = [timestamp()] * len(group)
        else:
            numbers = range(sent, sent + len(group))
            times = [timestamp(started_at + timedelta(seconds=i / rate)) for i in numbers]
        sent += len(group)
        yield list(zip(group, times, strict=True))


def gather(images: Iterator[SourceImage], most: int) -> list[SourceImage]:
    """Take up to `most` images, fewer of large ones."""
    group: list[SourceImage] = []
    size = 0
    for image in islice(images, most):
        group.append(image)
        size += len(image.data)
        if size >= GROUP_BYTES:
            break
    return group


if __name__ == "__main__":
    run_script("app_1", parser(), main)

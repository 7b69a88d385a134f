"""The schedule of `app_1.py`: which images are due, and when each was meant to be sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from DurableText.moments import timestamp
from Pipeline.serving.image_source import ImageSource, SourceImage
from Pipeline.stop import Stop

# Published and confirmed together: enough to spread a round trip, small enough for a smooth start.
GROUP_SIZE = 1024
# What is due within this (s) goes together. Smaller groups cost more than they save, in each script
# and at the broker: at 10,000 images a second, whose groups were of 1.5 ms, 189 µs of CPU an image
# in place of 124, which two cores have no room for, and a median of 20 ms in place of 12.
GROUP_SECONDS = 0.008
# Photographs have megabytes: a group of them takes no further one beyond this.
GROUP_BYTES = 16 * 1024 * 1024

# An image, and the time at which it was meant to be sent.
DueImage = tuple[SourceImage, str]


def paced_groups(source: ImageSource, rate: float | None, stop: Stop) -> Iterator[list[DueImage]]:
    """Yield images as they are due, `rate` a second; with None as fast as they are taken.

    Images that are due one by one go one by one, without a wait; those that come closer together
    than `GROUP_SECONDS` in groups. An open loop: a broker that is slow for a while does not slow
    the schedule, and what has become due meanwhile goes at once. The clock starts when the first
    image is confirmed, since connecting (half a second with Kafka) is no part of the load.
    """
    images = iter(source)
    if rate is not None:
        yield [(image, timestamp()) for image in islice(images, 1)]
    start, started_at = time.monotonic(), datetime.now(UTC)
    sent = 0 if rate is None else 1
    group_at = start
    while sent < len(source) and not stop.requested:
        due = GROUP_SIZE
        if rate is not None:
            apart = min(GROUP_SECONDS, GROUP_SIZE / rate)
            group_at = max(start + sent / rate, group_at + apart)
            if stop.wait(group_at - time.monotonic()):
                break
            due = int(min((time.monotonic() - start) * rate, len(source))) + 1 - sent
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

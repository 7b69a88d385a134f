"""Good messages before, between and after every poison: all arrive, and the poison is told."""

from __future__ import annotations

import os
import random
import time

import psutil
import pytest

from MessageBroker.core.broker import BrokerCore
from tests.liveness.poison import Stranger, damage, fuzzed
from tests.pipeline.runner import Pipeline, Script
from tests.waiting import wait_until

# So long after the last good one all of them are in the DB (s); for the rest the machine is busy.
IN_TIME_SECONDS = 30.0
PATIENCE_SECONDS = 90.0
# After so long without a letter there is none (s).
QUIET_SECONDS = 2.0
GOOD = 60
FUZZED = 500
# By `make soak`; in steps, so that what grows is seen.
MANY_FUZZED = 10_000
STEP = 1000
# Of the fuzzed records, what is seen as a letter or a row; a few share an id, or are no poison.
TOLD = 0.9
# What a script may hold more after the second half of so many records than after the first.
FLAT_BYTES = 80 * 1024 * 1024
# Batches that unpack to 100 MB cost so much while the client looks at them.
BOMBED_BYTES = 1200 * 1024 * 1024


def start(pipeline: Pipeline) -> list[Script]:
    return [pipeline.sub().ready(), pipeline.pub().ready(), pipeline.app_2().ready()]


def memory(scripts: list[Script]) -> int:
    return max(psutil.Process(each.process.pid).memory_info().rss for each in scripts)


def publish(pipeline: Pipeline, count: int = GOOD) -> None:
    pipeline.app_1("--count", count).end()


def assert_all_good_are_stored(pipeline: Pipeline, scripts: list[Script]) -> None:
    good = set(pipeline.ids())

    def stored() -> bool:
        dead = [each.name for each in scripts if each.process.poll() is not None]
        assert not dead, f"{dead} ended: {[each.output[-1500:] for each in scripts]}"
        return good <= {row["id"] for row in pipeline.rows()}

    wait_until(stored, f"all {len(good)} good ones are stored", PATIENCE_SECONDS)


def letters_of(broker: BrokerCore, topic: str, at_least: int) -> int:
    """Count the letters of a topic: as many as there must be, and all that come with them."""
    counted = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    with broker.subscribe(f"{topic}-dead-letter") as subscription:
        while True:
            letters = subscription.receive(500, QUIET_SECONDS)
            subscription.ack(letters)
            counted += len(letters)
            if not letters and counted >= at_least:
                return counted
            assert time.monotonic() < deadline, f"{counted} of {at_least} letters of {topic}"


def assert_nothing_waits(pipeline: Pipeline, broker: BrokerCore) -> None:
    """Nothing is outstanding, where the broker can tell."""
    for topic in (pipeline.images, pipeline.inferences):
        if broker.backlog(topic) is not None:
            wait_until(lambda topic=topic: broker.backlog(topic) == 0, f"{topic} is empty")


@pytest.mark.timeout(300)
def test_good_messages_flow_past_what_nobody_can_move(
    pipeline: Pipeline, stranger: Stranger
) -> None:
    scripts = start(pipeline)
    broker = pipeline.connect()
    publish(pipeline)
    poison = {
        topic: stranger.write_what_nobody_can_move(topic)
        for topic in (pipeline.images, pipeline.inferences)
    }
    damaged = damage(pipeline)
    publish(pipeline)

    assert_all_good_are_stored(pipeline, scripts)

    assert letters_of(broker, pipeline.images, poison[pipeline.images]) == poison[pipeline.images]
    # The broken lines of the queue are letters of the results, but for an empty one.
    least = poison[pipeline.inferences] + damaged - 1
    assert letters_of(broker, pipeline.inferences, least) >= least
    assert_nothing_waits(pipeline, broker)
    assert memory(scripts) < BOMBED_BYTES
    for script in scripts:
        script.terminate()


def run_fuzzed(pipeline: Pipeline, stranger: Stranger, count: int, step: int) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FUZZ_SEED={seed}")
    scripts = start(pipeline)
    broker = pipeline.connect()
    publish(pipeline)
    written, held = 0, []
    records = list(fuzzed(seed, count))
    for begin in range(0, count, step):
        part = records[begin : begin + step]
        half = len(part) // 2
        written += stranger.write(pipeline.images, part[:half])
        written += stranger.write(pipeline.inferences, part[half:])
        publish(pipeline)
        assert_all_good_are_stored(pipeline, scripts)
        held.append(memory(scripts))

    # Each is a letter, or an image or a result for all that anybody can tell; of one id, one row.
    assert_nothing_waits(pipeline, broker)
    rows = len(pipeline.rows()) - len(pipeline.ids())
    letters = letters_of(broker, pipeline.images, 1) + letters_of(broker, pipeline.inferences, 1)
    assert rows + letters >= TOLD * written, (rows, letters, written)
    assert held[-1] - held[len(held) // 2] < FLAT_BYTES, held
    for script in scripts:
        script.terminate()


@pytest.mark.timeout(300)
def test_fuzzed_records_cost_themselves(pipeline: Pipeline, stranger: Stranger) -> None:
    run_fuzzed(pipeline, stranger, FUZZED, FUZZED // 2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_fuzzed_records_cost_themselves(pipeline: Pipeline, stranger: Stranger) -> None:
    run_fuzzed(pipeline, stranger, MANY_FUZZED, STEP)

"""A long fault test: processes that publish and consume are killed, stopped and woken at random.

Run by `make soak`. It prints its seed; `CHAOS_SEED` repeats a run, `CHAOS_SECONDS` sets its length.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.process import Worker
from MessageBroker.conformance.stories import receive_bodies

CHAOS_SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
CONSUMERS = 3


class Crowd:
    """Publishers and consumers, and what is known of their messages."""

    def __init__(self, under_test: BrokerUnderTest, topic: str, seed: int) -> None:
        self._handler = under_test
        self._topic = topic
        self._random = random.Random(seed)
        self._publishers = 0
        self.confirmed: set[str] = set()
        self.acked: set[str] = set()
        self._acking: dict[Worker, list[str]] = {}
        self.publisher = self._new_publisher()
        self.consumers = [self._new_consumer() for _ in range(CONSUMERS)]
        self.stopped: list[Worker] = []

    def _new_publisher(self) -> Worker:
        worker = self._handler.worker()
        self._publishers += 1
        worker.send("publish_for_ever", topic=self._topic, first=1_000_000 * self._publishers)
        return worker

    def _new_consumer(self) -> Worker:
        worker = self._handler.worker()
        worker.send("subscribe", topic=self._topic)
        worker.send("consume_for_ever", nack_every=self._random.choice([0, 3, 10]))
        return worker

    def collect(self) -> None:
        """Note what was confirmed, and what was acknowledged."""
        self.confirmed.update(str(each) for each in self.publisher.replies_so_far())
        for consumer in [*self.consumers, *self.stopped]:
            self._note(consumer)

    def _note(self, consumer: Worker) -> None:
        for report in consumer.replies_so_far():
            if report is not None:  # not the reply to "subscribe"
                self._acking[consumer] = report.get("acking", [])
                self.acked.update(report.get("acked", ()))

    def disturb(self) -> str:
        """Do one bad thing."""
        deed = self._random.choice(
            [self._kill_publisher, self._kill_consumer, self._stop_consumer, self._wake, self._away]
        )
        deed()
        return deed.__name__.strip("_")

    def _kill_publisher(self) -> None:
        self.publisher.kill()
        self.collect()
        self.publisher = self._new_publisher()

    def _kill_consumer(self) -> None:
        victim = self.consumers.pop(self._random.randrange(len(self.consumers)))
        victim.kill()
        self._note(victim)
        self.consumers.append(self._new_consumer())

    def _stop_consumer(self) -> None:
        if len(self.consumers) > 1:
            self.stopped.append(self.consumers.pop(0))
            self.stopped[-1].pause()

    def _wake(self) -> None:
        while self.stopped:
            self.consumers.append(self.stopped.pop())
            self.consumers[-1].resume()

    def _away(self) -> None:
        self._wake()  # one that was stopped in a transaction holds the embedded broker's file
        with self._handler.outage():
            time.sleep(self._random.uniform(0.5, 4.0))

    @property
    def in_doubt(self) -> set[str]:
        """Messages whose consumer was killed during their ack: nobody can say."""
        return {body for bodies in self._acking.values() for body in bodies}

    def end(self) -> None:
        """Let everybody go."""
        self._wake()
        self.publisher.kill()
        self.collect()
        for consumer in self.consumers:
            consumer.kill()
            self._note(consumer)


@pytest.mark.soak
@pytest.mark.timeout(CHAOS_SECONDS + 300)
def test_nothing_is_lost_in_chaos(under_test: BrokerUnderTest) -> None:
    seed = int(os.environ.get("CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"CHAOS_SEED={seed}")
    broker, topic = under_test.connect_with_topic()
    crowd = Crowd(under_test, topic, seed)
    pauses = random.Random(seed)
    deadline = time.monotonic() + CHAOS_SECONDS
    while time.monotonic() < deadline:
        wait = time.monotonic() + pauses.uniform(0.5, 5.0)
        while time.monotonic() < wait:
            crowd.collect()
            time.sleep(0.1)
        print(f"{len(crowd.confirmed)} confirmed, {len(crowd.acked)} acked: {crowd.disturb()}")

    crowd.end()

    assert crowd.confirmed
    receive_bodies([broker.subscribe(topic)], crowd.confirmed - crowd.acked - crowd.in_doubt)

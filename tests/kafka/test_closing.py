"""Closing a consumer ends, whatever the brokers and the group do meanwhile."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from DurableText.program.closing import ClosedAtExit
from MessageBroker.kafka.group_consumer import GroupConsumer
from MessageBroker.kafka.stream import KafkaStream
from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.kafka_server import KafkaCluster
from tests.kafka.conftest import Connect
from tests.pipeline.runner import ROOT
from tests.waiting import wait_until

PATIENCE_SECONDS = 60.0
CLOSES = 80
# With all the outages, on a busy machine.
CLOSE_SECONDS = 20.0


@pytest.fixture
def broken() -> Iterator[KafkaCluster]:
    """A node of its own: it is killed, frozen and started again."""
    find_or_skip()
    with KafkaCluster() as cluster:
        yield cluster


def test_nothing_is_asked_of_a_client_that_ends(
    connect: Connect,
    admin: AdminClient,
    topic: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two changes are to be told: the partitions for the newcomer, and then the rest."""
    group = f"{topic}-sub"
    broker = connect()
    broker.create_topic(topic)
    forget, told = GroupConsumer._forget, []

    def forget_slowly(self: GroupConsumer, partitions: set[int]) -> None:
        told.append(partitions)
        if len(told) > 1:
            time.sleep(0.5)  # a client that ends has ended by now
        forget(self, partitions)

    monkeypatch.setattr(GroupConsumer, "_forget", forget_slowly)
    stream = broker._join(topic, group, from_the_beginning=True)

    def is_dealt_anew() -> bool:
        described = admin.describe_consumer_groups([group])[group].result()
        return len(described.members) == 2 and described.state == ConsumerGroupState.STABLE

    newcomers = queue.Queue[KafkaStream]()
    joining = threading.Thread(
        target=lambda: newcomers.put(broker._join(topic, group, from_the_beginning=True))
    )
    joining.start()
    wait_until(is_dealt_anew, "the group is dealt anew")

    with caplog.at_level(logging.DEBUG, logger="MessageBroker.kafka"):
        stream.close([])

    assert not [each for each in caplog.messages if "_DESTROY" in each]
    newcomers.get(timeout=PATIENCE_SECONDS).close([])
    joining.join()


# It subscribes and closes until its input ends. The watchdog is no thread of Python: it works too
# where a call keeps the interpreter's lock for ever.
CONSUMER = """
import faulthandler, random, sys, threading, time
from MessageBroker import BrokerError
from MessageBroker.kafka_handler import KafkaHandler

servers, topic, seed, limit = sys.argv[1:]
ends = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ends.set()), daemon=True).start()
random.seed(seed)
with KafkaHandler({"bootstrap.servers": servers}) as broker:
    while not ends.is_set():
        faulthandler.dump_traceback_later(float(limit), exit=True)
        try:
            subscription = broker.subscribe(topic)
            until = time.monotonic() + random.uniform(0, 2)
            while time.monotonic() < until:
                subscription.ack(subscription.receive(10, 0.2))
                time.sleep(random.choice([0, 0.5]))
        except BrokerError:
            continue
        began = time.monotonic()
        subscription.close()
        print(round(time.monotonic() - began, 1), flush=True)
"""


class Consumer(ClosedAtExit):
    """A process that opens and closes its subscription again and again."""

    def __init__(self, cluster: KafkaCluster, topic: str, seed: int) -> None:
        arguments = [cluster.bootstrap_servers, topic, str(seed), str(PATIENCE_SECONDS)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)

    @property
    def closes(self) -> int:
        return sum(each.strip().replace(".", "").isdecimal() for each in self.lines)

    def require_running(self) -> None:
        """Fail if it has ended."""
        assert self._process.poll() is None, "".join(self.lines)

    def end(self) -> None:
        """Ask it to end; fail if it was stopped by its watchdog, or does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(2 * PATIENCE_SECONDS)
        self._reading.join()
        assert code == 0, "".join(self.lines)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_closing_ends_every_time_while_brokers_come_and_go(broken: KafkaCluster) -> None:
    """The only node is frozen, killed and started again, and no consumer is ended by its client."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    topic = "closed-often"
    with KafkaHandler({"bootstrap.servers": broken.bootstrap_servers}) as broker:
        broker.create_topic(topic)
    with contextlib.ExitStack() as stack:
        consumers = [stack.enter_context(Consumer(broken, topic, seed + i)) for i in range(4)]
        until = time.monotonic() + CLOSES * CLOSE_SECONDS
        while sum(each.closes for each in consumers) < CLOSES:
            for each in consumers:
                each.require_running()
            assert time.monotonic() < until, [each.lines[-9:] for each in consumers]
            time.sleep(dice.uniform(1, 4))
            if dice.random() < 0.5:
                broken.pause()
                time.sleep(dice.uniform(0.5, 8))
                broken.resume()
            else:
                broken.kill()
                time.sleep(dice.uniform(0, 3))
                broken.restart()
        for each in consumers:
            each.end()

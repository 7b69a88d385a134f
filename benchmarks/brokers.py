"""How fast the brokers are, beside the bare clients, in one run.

python -m benchmarks.brokers                        all three
python -m benchmarks.brokers --broker kafka
python -m benchmarks.brokers --broker local --backlog 1000000

Ours and the bare client take turns, and medians are compared: a machine that other work slows down
slows both. The servers are those of the tests: real ones, on this machine. The results go to
`benchmarks/results/brokers.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bare_clients import BARE_CLIENTS, BareClient, Batch
from benchmarks.percentiles import percentile
from MessageBroker import BrokerInterface, DeliverySettings, MessageBrokerFactory, OutgoingMessage
from MessageBroker.core.broker import BrokerCore
from Modelling.data_preparation import bundled_test_images, encode_npy
from tests.brokers.harness import BROKERS, BrokerUnderTest

RESULTS = Path(__file__).resolve().parent / "results" / "brokers.json"
BODY_BYTES = 900
ATTRIBUTES = {"ce_id": "0199a7c2-5d5e-7c8b-a111-6f0d3b0a9c11", "content-type": "image/png"}
SATURATING_WRITERS = 2
PROCESSES = multiprocessing.get_context("spawn")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What is sent through one broker.

    Attributes:
        messages: in each round; whole batches of `publish_batch`.
        publish_batch: messages of one `publish_batch`.
        receive_batch: the most of one `receive`.
        keyed: whether messages have keys. Kafka spreads them by key; the pipeline uses none.
    """

    messages: int
    publish_batch: int
    receive_batch: int
    keyed: bool = False


LOADS = {
    "local": Load(messages=102_400, publish_batch=256, receive_batch=256),
    # Much more than the 64 MB that the client fetches ahead: otherwise its memory is measured.
    "kafka": Load(messages=400_000, publish_batch=10_000, receive_batch=1000, keyed=True),
    "pubsub": Load(messages=10_000, publish_batch=1000, receive_batch=1000),
}


def batches_of(load: Load) -> list[Batch]:
    """Return the messages of one round: the bundled images, of 912 bytes each.

    Made-up bodies would mislead where a client compresses: one repeated body costs it nothing, and
    random bytes more than any image. It is one batch again and again: hundreds of thousands of
    objects in memory would be the garbage collector's work, and no consumer holds them.
    """
    images = [encode_npy(image) for image in bundled_test_images()[0]]
    keys = [str(number) for number in range(100)]
    batch = [
        OutgoingMessage(
            images[number % len(images)], keys[number % 100] if load.keyed else None, ATTRIBUTES
        )
        for number in range(load.publish_batch)
    ]
    return [batch] * (load.messages // load.publish_batch)


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---------------------------------------------------------------------- throughput


def publish(broker: BrokerInterface, topic: str, batches: list[Batch]) -> None:
    """Publish all; each batch is confirmed before the next."""
    for batch in batches:
        broker.publish_batch(topic, batch)


def consume(broker: BrokerInterface, topic: str, count: int, batch_size: int) -> float:
    """Receive and acknowledge; return the seconds from the first receipt on."""
    received = 0
    began = 0.0
    with broker.subscribe(topic) as subscription:
        while received < count:
            messages = subscription.receive(batch_size, 1.0)
            began = began or time.perf_counter()
            subscription.ack(messages)
            received += len(messages)
        return time.perf_counter() - began


def throughput(
    under_test: BrokerUnderTest, broker: BrokerCore, bare: BareClient, rounds: int
) -> Figures:
    """Compare publishing and consuming, taking turns."""
    load = LOADS[under_test.name]
    batches = batches_of(load)
    rates: dict[str, list[float]] = {name: [] for name in ("pub", "bare pub", "con", "bare con")}
    processor: dict[str, list[float]] = {name: [] for name in rates}
    for number in range(rounds):
        ours, theirs = under_test.unused_name(), under_test.unused_name()
        for topic in (ours, theirs):
            broker.create_topic(topic)
        works: dict[str, Callable[[], float]] = {
            "pub": lambda topic=ours: seconds_of(lambda: publish(broker, topic, batches)),
            "bare pub": lambda topic=theirs: seconds_of(lambda: bare.publish(topic, batches)),
            "con": lambda topic=ours: consume(broker, topic, load.messages, load.receive_batch),
            "bare con": lambda topic=theirs: bare.consume(topic, load.messages, load.receive_batch),
        }
        # Whoever comes second finds warm caches: that is each of the two in turn.
        order = ("pub", "bare pub", "con", "bare con")
        for name in order if number % 2 else ("bare pub", "pub", "bare con", "con"):
            work = works[name]
            before = time.process_time()
            rates[name].append(load.messages / work())
            processor[name].append(1e6 * (time.process_time() - before) / load.messages)
        for topic in (ours, theirs):
            broker.delete_topic(topic)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # All threads of this process. It says more than the speed where the machine has other work.
    costs = {name: round(statistics.median(values), 1) for name, values in processor.items()}
    return {
        "published per second": round(medians["pub"]),
        "published per second, bare": round(medians["bare pub"]),
        "published, ratio": round(medians["pub"] / medians["bare pub"], 2),
        "received and acked per second": round(medians["con"]),
        "received and acked per second, bare": round(medians["bare con"]),
        "received and acked, ratio": round(medians["con"] / medians["bare con"], 2),
        "CPU us a message published": costs["pub"],
        "CPU us a message published, bare": costs["bare pub"],
        "CPU us a message received and acked": costs["con"],
        "CPU us a message received and acked, bare": costs["bare con"],
    }


def with_backlog(broker: BrokerInterface, topic: str, backlog: int) -> Figures:
    """Publish and consume the same number with and without a large backlog before it."""
    load = LOADS["local"]
    batches = batches_of(load)
    rounds = math.ceil(backlog / load.messages)
    figures: Figures = {"backlog": rounds * load.messages}
    broker.create_topic(topic)
    for label, standing in (("empty", 0), ("backlog", rounds)):
        for _ in range(standing):
            publish(broker, topic, batches)
        publishing = load.messages / seconds_of(lambda: publish(broker, topic, batches))
        consuming = load.messages / consume(broker, topic, load.messages, load.receive_batch)
        figures[f"published per second, {label}"] = round(publishing)
        figures[f"received and acked per second, {label}"] = round(consuming)
    broker.delete_topic(topic)
    return figures


# ---------------------------------------------------------------------- latency


def latencies(broker: BrokerInterface, topic: str, count: int) -> list[float]:
    """Publish and receive one at a time; return the seconds of each."""
    found = []
    with broker.subscribe(topic) as subscription:
        while not subscription.ready:
            subscription.receive(1, 0.1)
        for number in range(count):
            began = time.perf_counter()
            broker.publish(topic, str(number).encode(), attributes={"number": "7"})
            messages = []
            while not messages:
                messages = subscription.receive(1, 1.0)
            found.append(time.perf_counter() - began)
            subscription.ack(messages)
    return found


def milliseconds(values: list[float], what: str) -> Figures:
    """Return p50 and p99 in milliseconds."""
    if not values:
        return {}
    return {
        f"{what}, p50 ms": round(1000 * statistics.median(values), 2),
        f"{what}, p99 ms": round(1000 * percentile(values, 0.99), 2),
    }


def one_at_a_time(
    under_test: BrokerUnderTest, broker: BrokerCore, bare: BareClient, count: int
) -> Figures:
    """Compare the way of one message, publish to receive, in one process."""
    ours, theirs = [], []
    for _ in range(3):
        topics = under_test.unused_name(), under_test.unused_name()
        for topic in topics:
            broker.create_topic(topic)
        ours += latencies(broker, topics[0], count // 3)
        theirs += bare.latencies(topics[1], count // 3)
    return {
        **milliseconds(ours, "publish to receive"),
        **milliseconds(theirs, "publish to receive, bare"),
    }


# ---------------------------------------------------------------------- other processes


def _publish_slowly(name: str, folder: str, topic: str, count: int, pause: float) -> None:
    """In another process: publish the time, now and then."""
    with MessageBrokerFactory.get_broker(name, config_dir=folder) as broker:
        broker.publish(topic, b"0").result()
        for _ in range(count):
            time.sleep(pause)
            broker.publish(topic, str(time.monotonic_ns()).encode()).result()


def _publish_all_the_time(name: str, folder: str, topic: str, begun: Event, end: Event) -> None:
    """In another process: publish batches without a pause."""
    batch = [OutgoingMessage(os.urandom(BODY_BYTES), None, ATTRIBUTES)] * 256
    with MessageBrokerFactory.get_broker(name, config_dir=folder) as broker:
        while not end.is_set():
            broker.publish_batch(topic, batch)
            begun.set()


def _wait_idly(name: str, folder: str, topic: str, ready: Event) -> None:
    """In another process: wait for messages that do not come."""
    with MessageBrokerFactory.get_broker(name, config_dir=folder) as broker:
        subscription = broker.subscribe(topic)
        subscription.receive(1, 3.0)
        ready.set()
        while True:
            subscription.receive(1, 60.0)


def wake_up(under_test: BrokerUnderTest, broker: BrokerCore, count: int) -> Figures:
    """Measure from a publish in another process to the return of a waiting receive."""
    topic = under_test.unused_name()
    broker.create_topic(topic)
    found: list[float] = []
    arguments = (under_test.name, str(under_test.config_dir), topic, count, 0.05)
    publisher = PROCESSES.Process(target=_publish_slowly, args=arguments)
    with broker.subscribe(topic) as subscription:
        publisher.start()
        while len(found) < count + 1:
            messages = subscription.receive(1, 60.0)
            now = time.monotonic_ns()
            subscription.ack(messages)
            found += [(now - int(message.data)) / 1e9 for message in messages]
    publisher.join()
    return milliseconds(found[1:], "wake-up across processes")  # the first only said hello


def beside_writers(under_test: BrokerUnderTest, broker: BrokerCore, seconds: float) -> Figures:
    """Measure single publishes while two other processes publish as fast as they can."""
    topic = under_test.unused_name()
    broker.create_topic(topic)
    end = PROCESSES.Event()
    begun = [PROCESSES.Event() for _ in range(SATURATING_WRITERS)]
    arguments = (under_test.name, str(under_test.config_dir), topic)
    writers = [
        PROCESSES.Process(target=_publish_all_the_time, args=(*arguments, each, end))
        for each in begun
    ]
    for writer in writers:
        writer.start()
    for each in begun:
        each.wait()
    found = []
    deadline = time.monotonic() + seconds
    body = os.urandom(BODY_BYTES)
    while time.monotonic() < deadline:
        found.append(seconds_of(lambda: broker.publish(topic, body).result()))
        time.sleep(0.005)
    end.set()
    for writer in writers:
        writer.join()
    broker.delete_topic(topic)
    return milliseconds(found, f"single publish beside {SATURATING_WRITERS} writers")


def idle(under_test: BrokerUnderTest, broker: BrokerCore, seconds: float) -> Figures:
    """Measure what a consumer costs that waits."""
    topic = under_test.unused_name()
    broker.create_topic(topic)
    ready = PROCESSES.Event()
    arguments = (under_test.name, str(under_test.config_dir), topic, ready)
    consumer = PROCESSES.Process(target=_wait_idly, args=arguments)
    consumer.start()
    ready.wait()
    process = psutil.Process(consumer.pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    consumer.kill()
    consumer.join()
    used = after.user + after.system - before.user - before.system
    return {"idle consumer, % of a core": round(100 * used / seconds, 2)}


# ---------------------------------------------------------------------- the run


@contextmanager
def running(name: str) -> Iterator[BrokerUnderTest]:
    """Start a broker as the tests do, reachable by the environment."""
    with BROKERS[name]() as under_test:
        os.environ.update(under_test.environment)
        yield under_test


def measure(name: str, options: argparse.Namespace) -> Figures:
    """Measure one broker."""
    with running(name) as under_test:
        defaults = DeliverySettings()
        # The handler as users have it: the tests' short back-offs change nothing here.
        broker = under_test.connect(
            max_outstanding_messages=defaults.max_outstanding_messages,
            min_backoff=defaults.min_backoff,
            max_backoff=defaults.max_backoff,
        )
        bare = BARE_CLIENTS[name](broker, under_test.config_dir)
        figures = throughput(under_test, broker, bare, options.rounds)
        figures |= one_at_a_time(under_test, broker, bare, options.singles)
        figures |= wake_up(under_test, broker, options.singles // 5)
        figures |= idle(under_test, broker, 5.0)
        if name == "local":
            figures |= beside_writers(under_test, broker, 10.0)
            if options.backlog:
                figures |= with_backlog(broker, under_test.unused_name(), options.backlog)
        bare.close()
    return figures


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.brokers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--broker", action="append", choices=list(BROKERS))
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--singles", type=int, default=600, help="messages sent one at a time; default: %(default)s"
    )
    parser.add_argument(
        "--backlog", type=int, default=0, help="of the embedded broker, for one more measurement"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    gc.freeze()  # as the scripts do: what was imported need not be searched for garbage again
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in options.broker or list(BROKERS):
        figures = measure(name, options)
        results[name] = {
            "figures": figures,
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}",
            "load average": round(os.getloadavg()[0], 1),
        }
        print(f"\n{name}")
        for what, figure in figures.items():
            print(f"  {what:<48} {figure:>12,}")
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A loop over confluent-kafka, as a good engineer writes it in an afternoon. At least once.

    python -m benchmarks.peers.apps.plain_loop BOOTSTRAP_SERVERS IMAGES RESULTS

A batch is what is there, its results are confirmed before its offsets are committed. There is no
queue, no DB, no dead letter: what cannot be read ends the program.
"""

from __future__ import annotations

import signal
import sys

from confluent_kafka import Consumer, Producer

from benchmarks.peers.apps.digits import Digits
from benchmarks.peers.apps.results import result_of

BATCH = 256


def main() -> None:
    servers, images, results = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    digits = Digits(threads=2)
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1})
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"plain-{images}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([images])
    try:
        while True:
            first = consumer.poll(1.0)
            if first is None:
                continue
            batch = [first, *consumer.consume(BATCH - 1, timeout=0)]
            for message, answer in zip(
                batch, digits.classify([each.value() for each in batch]), strict=True
            ):
                headers = {name: value.decode() for name, value in message.headers() or ()}
                producer.produce(results, result_of(headers, *answer))
            producer.flush()
            consumer.commit(asynchronous=True)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()

"""Reads a topic of results and appends each, with its time of arrival, to a file: not durably.

    python -m benchmarks.peers.apps.sink SERVERS TOPIC FILE

What a transaction has not committed is not read.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer

BATCH = 10_000


def main() -> None:
    servers, topic, path = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"sink-{topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    with Path(path).open("ab", buffering=0) as file:
        while True:
            first = consumer.poll(1.0)
            if first is None:
                continue
            batch = [first, *consumer.consume(BATCH, timeout=0)]
            now = f"{time.time():.6f} ".encode()
            bodies = (each.value() for each in batch if each.error() is None)
            file.write(b"".join(now + body + b"\n" for body in bodies))


if __name__ == "__main__":
    main()

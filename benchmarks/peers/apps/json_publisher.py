"""Publishes the bundled images as MLServer reads them: JSON of the V2 protocol, open loop.

    python -m benchmarks.peers.apps.json_publisher SERVERS TOPIC IDS_FILE COUNT RATE FIRST

RATE 0: as fast as it goes. An id is `<when it was meant to be sent, ms>-<label>-<number>`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import orjson
from confluent_kafka import Producer

from Modelling.data_preparation import bundled_test_images


def main() -> None:
    servers, topic, ids_file, *numbers = sys.argv[1:]
    count, rate, first = int(numbers[0]), float(numbers[1]), int(numbers[2])
    images, labels = bundled_test_images()
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1})
    producer.list_topics(topic, timeout=10)
    confirmed: list[str] = []
    start = time.time()
    for i in range(first, first + count):
        meant = start + (i - first) / rate if rate else time.time()
        while (left := meant - time.time()) > 0:
            producer.poll(left)
        key = f"{1000 * meant:.0f}-{labels[i % len(labels)]}-{i}"
        pixels = images[i % len(images)].reshape(-1).tolist()
        tensor = {"name": "image", "shape": [1, len(pixels)], "datatype": "UINT8", "data": pixels}
        body = orjson.dumps({"inputs": [tensor]})
        while True:
            try:
                producer.produce(
                    topic,
                    body,
                    key,
                    headers={"mlserver-model": "digits"},
                    on_delivery=lambda error, _, key=key: error or confirmed.append(key),
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    with Path(ids_file).open("a") as file:
        file.writelines(f"{each}\n" for each in confirmed)


if __name__ == "__main__":
    main()

"""What strangers may put into the topics: each kind by hand, and as many more by a seed.

A `Stranger` writes to one broker as somebody else's program does: past all that ours check.
"""

from __future__ import annotations

import json
import random
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from Modelling.data_preparation import bundled_test_images
from tests.brokers.harness import BrokerUnderTest
from tests.pipeline.runner import Pipeline

# Pub/Sub takes 10,000,000 bytes a request, with what is around the body.
NEARLY_TEN_MEGABYTES = 9_999_000
# Beyond all that a client unpacks, and what it does unpack but no topic takes from us.
REFUSED_BY_THE_CLIENT = 101_000_000
REFUSED_AS_A_LETTER = 20_000_000

NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (28, 28), }"
MAGICS = (
    NPY,
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBP",
    b"{",
    b"[[[",
)


@dataclass(frozen=True)
class Foreign:
    """A record, as the wire would have it; a broker takes of it what it can.

    Attributes:
        value: its body.
        key: its key.
        headers: names and values.
    """

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[bytes, bytes | None]] = field(default_factory=list)


# ---------------------------------------------------------------------- made by a seed


def fuzzed(seed: int, count: int) -> Iterator[Foreign]:
    """Make records: noise, broken images, broken results, odd keys and headers."""
    rng = random.Random(seed)
    makers: tuple[Callable[[random.Random], bytes | None], ...] = (
        _noise, _noise, _broken_image, _broken_image, _broken_result, _broken_result, _nothing,
    )  # fmt: skip
    for _ in range(count):
        key = None if rng.random() < 0.8 else _noise(rng)[:40]
        headers = [(_header_name(rng), _header_value(rng)) for _ in range(rng.randrange(5))]
        yield Foreign(rng.choice(makers)(rng), key, headers)


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(min(int(rng.expovariate(1 / 300)), 20_000))


def _nothing(rng: random.Random) -> bytes | None:
    return rng.choice([None, b"", b"\0", b"null", b"{}"])


def _broken_image(rng: random.Random) -> bytes:
    pixels = bundled_test_images()[0]
    body = bytearray(rng.choice(MAGICS) + pixels[rng.randrange(len(pixels))].tobytes())
    for _ in range(rng.randrange(1, 8)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body[: rng.randrange(1, len(body) + 1)])


def _broken_result(rng: random.Random) -> bytes:
    odd = [
        "",
        "\0",
        "\n",
        "é" * 2000,
        "\u202e",
        "7",
        7,
        -1,
        10**40,
        1e308,
        None,
        True,
        [],
        {},
        [[]],
    ]
    fields = ["id", "label", "class_index", "confidence", "model", "source", "seq", "crc", "top"]
    result = {rng.choice(fields): rng.choice(odd) for _ in range(rng.randrange(9))}
    text = json.dumps(result, ensure_ascii=rng.random() < 0.5).encode()
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.3 else text


def _header_name(rng: random.Random) -> bytes:
    known = [b"ce_id", b"ce_type", b"ce_source", b"ce_time", b"traceparent", b"content-type"]
    known += [b"dead_letter_reason", b"dead_letter_place", b"dead_letter_body", b"ce_subject"]
    if rng.random() < 0.6:
        return rng.choice(known)
    return rng.randbytes(rng.randrange(1, 12))


def _header_value(rng: random.Random) -> bytes | None:
    if rng.random() < 0.5:
        return "".join(rng.choices(string.printable, k=rng.randrange(40))).encode()
    return rng.choice([None, b"", b"absent", rng.randbytes(rng.randrange(60)), b"x" * 1500])


# ---------------------------------------------------------------------- who writes it


class Stranger(ABC):
    """A foreign producer."""

    def __init__(self, broker: BrokerUnderTest) -> None:
        self._broker = broker

    @abstractmethod
    def write(self, topic: str, records: list[Foreign]) -> int:
        """Write records; return how many the broker took."""

    @abstractmethod
    def write_what_nobody_can_move(self, topic: str) -> int:
        """Write what no dead-letter topic takes; return how many letters it has to leave."""


class LocalStranger(Stranger):
    """Whoever uses this project's own interface, but none of its limits: there is no other way."""

    def write(self, topic: str, records: list[Foreign]) -> int:
        with self._broker.connect() as broker:
            for each in records:
                attributes = {
                    name.decode(errors="replace"): (value or b"").decode(errors="replace")
                    for name, value in each.headers
                }
                key = None if each.key is None else each.key.decode(errors="replace")
                broker.publish_unchecked(topic, each.value or b"", key, attributes)
            broker.flush(60)
        return len(records)

    def write_what_nobody_can_move(self, topic: str) -> int:
        records = [Foreign(bytes(REFUSED_AS_A_LETTER)) for _ in range(4)]
        return self.write(topic, records)


class KafkaStranger(Stranger):
    """Another language's client, one that may send what it wants, and one with transactions."""

    def write(self, topic: str, records: list[Foreign]) -> int:
        from tests.brokers.raw_kafka import RawRecord, produce

        address = self._broker.environment["KAFKA_BOOTSTRAP_SERVERS"]
        for number, each in enumerate(records):
            raw = RawRecord(each.value, each.key, each.headers, random.Random(number).randrange(9))
            produce(address, topic, number % 3, [raw])
        return len(records)

    def write_what_nobody_can_move(self, topic: str) -> int:
        for number in range(3):
            self._produce(topic, bytes(REFUSED_BY_THE_CLIENT), number)
        for number in range(4):
            self._produce(topic, bytes(REFUSED_AS_A_LETTER), number % 3)
        self._abort(topic)
        return 3 + 4

    def _produce(self, topic: str, value: bytes, partition: int) -> None:
        from confluent_kafka import Producer

        producer = Producer(
            {
                **self._servers(),
                "compression.type": "zstd",
                "message.max.bytes": 200_000_000,
                "queue.buffering.max.kbytes": 1_000_000,
            }
        )
        producer.produce(topic, value, partition=partition)
        assert producer.flush(60) == 0

    def _abort(self, topic: str) -> None:
        from confluent_kafka import Producer

        producer = Producer({**self._servers(), "transactional.id": f"stranger of {topic}"})
        producer.init_transactions(30)
        producer.begin_transaction()
        for partition in range(3):
            producer.produce(topic, b"never", partition=partition)
        producer.flush(30)
        producer.abort_transaction(30)

    def _servers(self) -> dict[str, str]:
        return {"bootstrap.servers": self._broker.environment["KAFKA_BOOTSTRAP_SERVERS"]}


class PubSubStranger(Stranger):
    """The generated client of the service."""

    def write(self, topic: str, records: list[Foreign]) -> int:
        from tests.pubsub.bare_client import BareClient

        client = BareClient(self._broker.environment)
        try:
            for each in records:
                attributes = {
                    name.hex() if b"\0" in name else name.decode(errors="replace"): (
                        (value or b"").decode(errors="replace")[:1000]
                    )
                    for name, value in each.headers
                }
                # Without a body it needs an attribute, and ordering is not for everybody.
                client.publish(
                    topic, {"data": each.value or b"", "attributes": attributes or {"a": "b"}}
                )
        finally:
            client.close()
        return len(records)

    def write_what_nobody_can_move(self, topic: str) -> int:
        return self.write(topic, [Foreign(b"x" * NEARLY_TEN_MEGABYTES) for _ in range(8)])


STRANGERS: dict[str, type[Stranger]] = {
    "local": LocalStranger,
    "kafka": KafkaStranger,
    "pubsub": PubSubStranger,
}

# Lines that somebody else's hand may leave in the queue's file.
QUEUE_LINES = (b"not JSON\n", b"{}\n", b'{"seq":1}\n', b"\xff\xfe\n", b"[" * 2000 + b"\n", b"\n")


def damage(pipeline: Pipeline) -> int:
    """Write broken lines into the queue's file; return how many."""
    with pipeline.queue.open("ab") as queue:
        queue.writelines(QUEUE_LINES)
    return len(QUEUE_LINES)

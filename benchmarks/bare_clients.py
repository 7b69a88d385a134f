"""What the handlers are measured against: the shortest correct loops over the bare clients.

Each does what its handler must do too (durable confirmation of every message; value, key and
headers read; every message acknowledged) with the same client settings, and nothing else.
"""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from MessageBroker import OutgoingMessage
from MessageBroker.core.broker import BrokerCore

Batch = list[OutgoingMessage]


class BareClient(ABC):
    """The same three things that are measured of the handler."""

    @abstractmethod
    def publish(self, topic: str, batches: list[Batch]) -> None:
        """Publish all; return when all is confirmed."""

    @abstractmethod
    def consume(self, topic: str, count: int, batch_size: int) -> float:
        """Receive and acknowledge `count`; return the seconds from the first receipt on."""

    @abstractmethod
    def latencies(self, topic: str, count: int) -> list[float]:
        """Publish and receive one at a time, in one thread; return the seconds of each."""

    @abstractmethod
    def close(self) -> None:
        """Let the clients go."""


class BareKafka(BareClient):
    """confluent-kafka with the properties of the handler."""

    def __init__(self, broker: BrokerCore, _folder: Path) -> None:
        from confluent_kafka import Producer

        settings: Any = broker._settings  # type: ignore[attr-defined]
        self._settings = settings
        self._producer = Producer(dict(settings.for_producer()))
        self._groups = 0

    def publish(self, topic: str, batches: list[Batch]) -> None:
        confirmed = 0

        def on_delivery(error: Any, _message: Any) -> None:
            nonlocal confirmed
            assert error is None, error
            confirmed += 1

        for batch in batches:
            for each in batch:
                while True:
                    try:
                        self._producer.produce(
                            topic,
                            each.data,
                            each.key,
                            headers=each.attributes,
                            on_delivery=on_delivery,
                        )
                        break
                    except BufferError:
                        self._producer.poll(0.05)
                self._producer.poll(0)
            self._producer.flush()
        assert confirmed == sum(map(len, batches))

    def _consumer(self, topic: str, reset: str) -> Any:
        from confluent_kafka import Consumer

        self._groups += 1
        group = f"bare-{time.time_ns()}-{self._groups}"
        properties = {**self._settings.for_consumer(group), "auto.offset.reset": reset}
        consumer = Consumer({**properties, "enable.partition.eof": "false"})
        consumer.subscribe([topic])
        return consumer

    def consume(self, topic: str, count: int, batch_size: int) -> float:
        from confluent_kafka import TopicPartition

        consumer = self._consumer(topic, "earliest")
        received = began = 0.0
        while received < count:
            records = consumer.consume(batch_size, 0.1)
            if not records:
                continue
            began = began or time.perf_counter()
            ends: dict[int, int] = {}
            for record in records:
                assert record.error() is None, record.error()
                record.value(), record.key(), record.headers()
                ends[record.partition()] = record.offset() + 1
            consumer.store_offsets(
                offsets=[TopicPartition(topic, part, end) for part, end in ends.items()]
            )
            received += len(records)
        seconds = time.perf_counter() - began
        consumer.close()
        return seconds

    def latencies(self, topic: str, count: int) -> list[float]:
        consumer = self._consumer(topic, "latest")
        while not consumer.assignment() or consumer.poll(0.5) is not None:
            consumer.poll(0.1)
        found = []
        for number in range(count):
            began = time.perf_counter()
            self._producer.produce(topic, str(number).encode(), headers={"number": "7"})
            self._producer.poll(0)
            record = None
            while record is None or record.error() is not None:
                record = consumer.poll(1.0)
            record.value(), record.headers()
            found.append(time.perf_counter() - began)
            consumer.store_offsets(message=record)
        consumer.close()
        return found

    def close(self) -> None:
        self._producer.flush()


class BarePubSub(BareClient):
    """google-cloud-pubsub: its publisher, and unary `pull` and `acknowledge`."""

    def __init__(self, _broker: BrokerCore, _folder: Path) -> None:
        import os

        from google.cloud import pubsub_v1

        self._project = os.environ["GOOGLE_CLOUD_PROJECT"]
        self._publisher = pubsub_v1.PublisherClient(
            publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
        )
        self._subscriber = pubsub_v1.SubscriberClient()

    def publish(self, topic: str, batches: list[Batch]) -> None:
        path = self._publisher.topic_path(self._project, topic)
        for batch in batches:
            futures = [
                self._publisher.publish(
                    path, each.data, ordering_key=each.key or "", **dict(each.attributes or {})
                )
                for each in batch
            ]
            for future in futures:
                future.result()

    def consume(self, topic: str, count: int, batch_size: int) -> float:
        path = self._subscriber.subscription_path(self._project, f"{topic}-sub")
        received = 0
        began = 0.0
        while received < count:
            response = self._subscriber.pull(subscription=path, max_messages=batch_size)
            began = began or time.perf_counter()
            ids = []
            for each in response.received_messages:
                each.message.data, each.message.ordering_key, dict(each.message.attributes)
                ids.append(each.ack_id)
            if ids:
                self._subscriber.acknowledge(subscription=path, ack_ids=ids)
            received += len(ids)
        return time.perf_counter() - began

    def latencies(self, topic: str, count: int) -> list[float]:
        path = self._publisher.topic_path(self._project, topic)
        subscription = self._subscriber.subscription_path(self._project, f"{topic}-sub")
        found = []
        for number in range(count):
            began = time.perf_counter()
            self._publisher.publish(path, str(number).encode())
            received: list[Any] = []
            while not received:
                response = self._subscriber.pull(subscription=subscription, max_messages=1)
                received = list(response.received_messages)
            found.append(time.perf_counter() - began)
            self._subscriber.acknowledge(
                subscription=subscription, ack_ids=[each.ack_id for each in received]
            )
        return found

    def close(self) -> None:
        self._publisher.stop()
        self._subscriber.close()


class BareSqlite(BareClient):
    """One table, one cursor, `synchronous=FULL`: one consumer, no leases, no fairness."""

    def __init__(self, _broker: BrokerCore, folder: Path) -> None:
        self._folder = folder

    def _open(self, topic: str) -> sqlite3.Connection:
        db = sqlite3.connect(self._folder / f"{topic}.bare", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS message "
            "(seq INTEGER PRIMARY KEY, key TEXT, attributes TEXT, data BLOB)"
        )
        db.execute("CREATE TABLE IF NOT EXISTS position (seq INTEGER)")
        return db

    def publish(self, topic: str, batches: list[Batch]) -> None:
        db = self._open(topic)
        for batch in batches:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO message (key, attributes, data) VALUES (?, ?, ?)",
                ((each.key, str(each.attributes), each.data) for each in batch),
            )
            db.execute("COMMIT")
        db.close()

    def consume(self, topic: str, count: int, batch_size: int) -> float:
        db = self._open(topic)
        began = time.perf_counter()
        db.execute("INSERT INTO position VALUES (0)")
        received = 0
        while received < count:
            rows = db.execute(
                "SELECT * FROM message WHERE seq > (SELECT seq FROM position) ORDER BY seq LIMIT ?",
                (batch_size,),
            ).fetchall()
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE position SET seq = ?", (rows[-1][0],))
            db.execute("DELETE FROM message WHERE seq <= ?", (rows[-1][0],))
            db.execute("COMMIT")
            received += len(rows)
        seconds = time.perf_counter() - began
        db.close()
        return seconds

    def latencies(self, topic: str, count: int) -> list[float]:  # noqa: ARG002
        return []  # nothing to compare with: a file alone wakes nobody

    def close(self) -> None:
        """Nothing stays open."""


BARE_CLIENTS: dict[str, type[BareClient]] = {
    "local": BareSqlite,
    "kafka": BareKafka,
    "pubsub": BarePubSub,
}

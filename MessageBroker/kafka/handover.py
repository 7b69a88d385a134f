"""One batch on its way through the producer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import MethodType

from confluent_kafka import KafkaError, KafkaException, Producer

from MessageBroker.core.driver import Batch
from MessageBroker.errors import BrokerError
from MessageBroker.kafka.errors import error_of
from MessageBroker.kafka.events import ClientEvents
from MessageBroker.kafka.record_times import RecordTimes
from MessageBroker.kafka.records import KafkaRecord, headers_of, id_of


class Handover:
    """Hands the messages of a batch to the client, and settles each as the client tells.

    Once a later request is confirmed, an idempotent client takes those before it for confirmed,
    too, and tells no place of theirs: a broker would have refused the later one. One that has
    nothing yet of this client in a partition does not, as when it has just become the leader: it
    takes the later one, and the earlier one, which it refused a moment before, is lost
    (confluent-kafka-go issue 921). So what has no place is not confirmed.
    """

    __slots__ = ("_batch", "_client", "_events", "_explain", "_given", "_supposed", "_times")

    def __init__(
        self,
        client: Producer,
        batch: Batch,
        times: RecordTimes,
        events: ClientEvents,
        explain: Callable[[KafkaError, str], BrokerError],
        supposed: deque[tuple[Handover, int]],
    ) -> None:
        """Begin; nothing is handed over yet.

        Args:
            client: the producer.
            batch: its messages.
            times: gives the records their time.
            events: told that the brokers answer.
            explain: says what an error means for a topic.
            supposed: takes this and the number of a message that the client only supposes to be
                there: it is to be handed over once more.
        """
        self._client = client
        self._batch = batch
        self._times = times
        self._events = events
        self._explain = explain
        self._supposed = supposed
        self._given = times.begin()

    def hand_over(self, number: int) -> bool:
        """Hand one over; False if the client's buffer is full."""
        message = self._batch.messages[number]
        try:
            self._client.produce(
                self._batch.topic,
                message.data,
                message.key or None,
                timestamp=self._given,
                headers=headers_of(message.attributes) if message.attributes else {},
                # Bound to the number, which is lighter than a `partial`.
                on_delivery=MethodType(self.settle, number),
            )
        except BufferError:
            return False
        except KafkaException as exception:
            self.settle(number, error_of(exception), None)
        return True

    def settle(self, number: int, error: KafkaError | None, record: KafkaRecord | None) -> None:
        """Take what the client tells of one."""
        batch = self._batch
        if error is not None:
            batch.fail(number, self._explain(error, batch.topic))
            return
        assert record is not None, "what is confirmed is handed back"
        offset = record.offset()
        if offset is None:
            self._supposed.append((self, number))
            return
        timestamp = self._times.of(batch.topic, self._given, record)
        batch.confirm(number, id_of(record.partition(), offset, timestamp))
        if not self._events.fine:
            self._events.answered()

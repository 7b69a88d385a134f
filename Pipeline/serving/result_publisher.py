"""What `model_server_pub.py` does with a batch: publish the results, dead-letter the rest."""

from __future__ import annotations

from MessageBroker import BrokerInterface, OutgoingMessage
from MessageBroker.errors import BrokerError
from MessageBroker.limits import cut
from Pipeline.events import inference_events, trace_carriers
from Pipeline.script.script import Script
from Pipeline.serving.dead_letters import LetterWithoutMessage, publish_letters
from Pipeline.serving.publishing import publish_what_is_taken, refusal_of_the_program
from Queue import CorruptRecord, QueueBatch

CORRUPT_LINE = "corrupt line in the queue"
UNPUBLISHABLE = "cannot be published"


class ResultPublisher:
    """Publishes what `model_server_pub.py` takes from the queue.

    The queue hands out in order: one result that stays would keep all others from being published.
    """

    def __init__(self, script: Script, broker: BrokerInterface, topic: str) -> None:
        self._script = script
        self._broker = broker
        self._topic = topic

    def publish(self, batch: QueueBatch) -> int:
        """Publish the results of a batch, and dead-letter what the broker will never take.

        Returns:
            How many results were published. The broker has confirmed them and the letters.
        """
        events = inference_events(batch.records, prefix=self._broker.cloudevents_prefix)
        carriers = trace_carriers(batch.records, events)
        with (
            self._script.tracing.spans("publish result", carriers),
            self._script.work.confirming(),
        ):
            refusals = publish_what_is_taken(self._broker, self._topic, events)
        refusal = refusal_of_the_program(refusals)
        if refusal is not None:
            raise refusal
        letters = [_letter_of(events[i], error) for i, error in refusals.items()]
        letters += [_letter_of_line(line) for line in batch.corrupt]
        publish_letters(self._script, self._broker, self._topic, letters)
        return len(events) - len(refusals)


def _letter_of(event: OutgoingMessage, error: BrokerError) -> LetterWithoutMessage:
    # Its attributes may be what the broker refuses.
    attributes = {name: cut(value) for name, value in (event.attributes or {}).items()}
    return LetterWithoutMessage(event.data, UNPUBLISHABLE, error, attributes)


def _letter_of_line(line: CorruptRecord) -> LetterWithoutMessage:
    return LetterWithoutMessage(line.raw, CORRUPT_LINE, line.reason, place=line.found_at)

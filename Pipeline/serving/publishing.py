"""Publishing batches of which the broker may refuse some: images and results."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from MessageBroker import BrokerInterface, OutgoingMessage
from MessageBroker.errors import BrokerError, MessageTooLargeError, PublishError
from MessageBroker.limits import cut
from Pipeline.events import image_event, inference_events
from Pipeline.script.script import Script
from Pipeline.serving.dead_letters import Letter, publish_letters
from Pipeline.serving.pacing import DueImage
from Queue import Batch, CorruptLine

logger = logging.getLogger(__name__)

CORRUPT_LINE = "corrupt line in the queue"
UNPUBLISHABLE = "cannot be published"


class ImagePublisher:
    """Publishes the images of `app_1.py`."""

    def __init__(self, script: Script, broker: BrokerInterface, topic: str) -> None:
        self._script = script
        self._broker = broker
        self._topic = topic

    def publish(self, group: Sequence[DueImage]) -> list[str]:
        """Publish a group; return the event ids of those that the broker has confirmed."""
        self._script.begin_batch(len(group))
        confirmed = self._script.within_grace(self._publish, group)
        self._script.tally.failed += len(group) - len(confirmed)
        self._script.tally.add(len(confirmed))
        return confirmed

    def _publish(self, group: Sequence[DueImage]) -> list[str]:
        subjects: list[str] = []
        events: list[tuple[str, OutgoingMessage]] = []
        for image, time in group:
            if image.trouble is not None:
                _tell_unpublished(image.subject, image.trouble)
                continue
            subjects.append(image.subject)
            events.append(
                image_event(
                    image.data,
                    prefix=self._broker.cloudevents_prefix,
                    subject=image.subject,
                    content_type=image.content_type,
                    expected_label=image.expected_label,
                    time=time,
                )
            )
        messages = [message for _, message in events]
        carriers = [message.attributes for message in messages]
        with self._script.tracing.spans("publish image", carriers, root=True):
            refusals = publish_what_is_taken(self._broker, self._topic, messages)
        for i, error in refusals.items():
            _tell_unpublished(subjects[i], error)
        return [event_id for i, (event_id, _) in enumerate(events) if i not in refusals]


def _tell_unpublished(subject: str, why: object) -> None:
    logger.error("%s was not published: %s", subject, why)


class ResultPublisher:
    """Publishes what `model_server_pub.py` takes from the queue.

    The queue hands out in order: one result that stays would keep all others from being published.
    """

    def __init__(self, script: Script, broker: BrokerInterface, topic: str) -> None:
        self._script = script
        self._broker = broker
        self._topic = topic

    def publish(self, batch: Batch) -> int:
        """Publish the results of a batch, and dead-letter what the broker will never take.

        Returns:
            How many results were published. The broker has confirmed them and the letters.
        """
        with self._script.tracing.spans("publish result", batch.records):
            events = inference_events(batch.records, prefix=self._broker.cloudevents_prefix)
            refusals = self._script.within_grace(
                publish_what_is_taken, self._broker, self._topic, events
            )
        for error in refusals.values():
            if not isinstance(error, (PublishError, MessageTooLargeError)):
                raise error  # it is this program that the broker refuses, not a result
        letters = [_letter_of(events[i], error) for i, error in refusals.items()]
        letters += [_letter_of_line(line) for line in batch.corrupt]
        publish_letters(self._script, self._broker, self._topic, letters)
        return len(events) - len(refusals)


def _letter_of(event: OutgoingMessage, error: BrokerError) -> Letter:
    # Its attributes may be what the broker refuses.
    attributes = {name: cut(value) for name, value in (event.attributes or {}).items()}
    return Letter(event.data, UNPUBLISHABLE, error, attributes)


def _letter_of_line(line: CorruptLine) -> Letter:
    place = {"file": line.file, "offset": str(line.offset)}
    return Letter(line.raw, CORRUPT_LINE, line.reason, place=place)


def publish_what_is_taken(
    broker: BrokerInterface, topic: str, messages: Sequence[OutgoingMessage]
) -> dict[int, BrokerError]:
    """Publish all that the broker takes, durably.

    Returns:
        Why it did not take the others, by their number.

    Raises:
        BrokerError: it takes none of them, for a reason that is not theirs.
    """
    try:
        broker.publish_batch(topic, messages)
    except (PublishError, MessageTooLargeError) as error:
        failures = error.failures if isinstance(error, PublishError) else {}
        if failures:
            return dict(failures)
        if len(messages) == 1:
            return {0: error}
    else:
        return {}
    # One of them was refused before anything was sent; the others shall not suffer.
    refusals: dict[int, BrokerError] = {}
    for number, message in enumerate(messages):
        for refusal in publish_what_is_taken(broker, topic, [message]).values():
            refusals[number] = refusal
    return refusals

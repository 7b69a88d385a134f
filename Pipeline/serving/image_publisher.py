"""What `app_1.py` does with a group of images: publish them, and say which are confirmed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from MessageBroker import BrokerInterface, OutgoingMessage
from MessageBroker.errors import BrokerError
from Pipeline.events import image_event
from Pipeline.script.script import Script
from Pipeline.serving.pacing import DueImage
from Pipeline.serving.publishing import publish_what_is_taken, refusal_of_the_program

logger = logging.getLogger(__name__)


class ImagePublisher:
    """Publishes the images of `app_1.py`.

    Attributes:
        refusal: why the broker takes nothing more of this program, whatever the image.
    """

    def __init__(self, script: Script, broker: BrokerInterface, topic: str) -> None:
        self.refusal: BrokerError | None = None
        self._script = script
        self._broker = broker
        self._topic = topic

    def publish(self, group: Sequence[DueImage]) -> list[str]:
        """Publish a group; return the event ids of those that the broker has confirmed."""
        self._script.begin_batch(len(group))
        with self._script.work.confirming():
            confirmed = self._publish(group)
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
        self.refusal = refusal_of_the_program(refusals)
        if self.refusal is None:
            for i, error in refusals.items():
                _tell_unpublished(subjects[i], error)
        return [event_id for i, (event_id, _) in enumerate(events) if i not in refusals]


def _tell_unpublished(subject: str, why: object) -> None:
    logger.error("%s was not published: %s", subject, why)

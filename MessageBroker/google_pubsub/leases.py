"""Leases: how long Pub/Sub leaves a message to the consumer that pulled it.

Pub/Sub calls it the ack deadline. A message whose lease is over goes to another consumer. So
leases are short, for a dead or stopped process to lose its messages soon, and a live one renews
them again and again.

Without exactly-once delivery the service takes every ack and every renewal, in time or not, and
says nothing. Only our own clock tells when a lease is over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from google.pubsub_v1 import AcknowledgeRequest, ModifyAckDeadlineRequest

from MessageBroker.core.clocks import boot_time
from MessageBroker.errors import BrokerError
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.message import Delivery

logger = logging.getLogger(__name__)

# A consumer that was killed or stopped loses its messages after so long, and 15 s are promised:
# the rest is for the way to the next one. Pub/Sub takes 10 s and more.
LEASE_SECONDS = 12
# Renewed when less is left. A process that was kept from its work for so long still has them.
RENEW_BELOW_SECONDS = 8.0

# Pub/Sub takes 512 KiB a request, and an id of the service has about 200 bytes.
MAX_IDS_PER_REQUEST = 2500
MAX_ID_BYTES_PER_REQUEST = 400_000
ID_OVERHEAD_BYTES = 4

# The next try comes within a second.
LEASE_TIMEOUT_SECONDS = 5.0


class Lease:
    """The handle of one delivery."""

    __slots__ = ("ack_id", "until")

    def __init__(self, ack_id: str, until: float) -> None:
        self.ack_id = ack_id
        self.until = until  # by `boot_time`; from then on the message may be another's


class Leases:
    """Acks, renewals and returns of the deliveries of one subscription."""

    def __init__(self, connection: Connection, subscription_id: str) -> None:
        self._connection = connection
        self._subscription_id = subscription_id
        self._path = connection.subscription_path(subscription_id)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge; return how many leases were over by then.

        Those are sent too: where the message was not yet delivered again, that spares it.
        """
        late = 0
        for chunk in _chunks(deliveries):
            now = boot_time()
            late += sum(delivery.handle.until < now for delivery in chunk)
            request = AcknowledgeRequest(subscription=self._path, ack_ids=_ids(chunk))
            self._call(self._connection.subscriber.acknowledge, request, "acknowledging on")
        return late

    def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Renew the leases that need it; return those that were over before.

        Raises:
            BrokerUnavailableError: the broker is away. Nothing is given up before it is back:
                until then an ack may still come in time.
        """
        now = boot_time()
        lapsed = [each for each in deliveries if each.handle.until < now]
        due = [each for each in deliveries if now <= each.handle.until < now + RENEW_BELOW_SECONDS]
        self.start(due)
        self.give_back(lapsed)  # whoever has them now has them under other ids
        return lapsed

    def start(self, deliveries: Sequence[Delivery]) -> None:
        """Let the leases run for `LEASE_SECONDS` from now."""
        for chunk in _chunks(deliveries):
            sent = boot_time()
            self._set_deadline(chunk, LEASE_SECONDS)
            for delivery in chunk:
                delivery.handle.until = sent + LEASE_SECONDS

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """End the leases now, so that the messages are delivered again at once."""
        for chunk in _chunks(deliveries):
            self._set_deadline(chunk, 0)

    def try_to_give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Give back; where that fails, the messages come again when their leases end."""
        try:
            self.give_back(deliveries)
        except BrokerError as error:
            logger.debug("%d messages come again in seconds only: %s", len(deliveries), error)

    def _set_deadline(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        request = ModifyAckDeadlineRequest(
            subscription=self._path, ack_ids=_ids(deliveries), ack_deadline_seconds=seconds
        )
        self._call(
            self._connection.subscriber.modify_ack_deadline, request, "setting the leases of"
        )

    def _call(self, rpc: Any, request: Any, doing: str) -> None:
        tried = f"{doing} the subscription {self._subscription_id!r}"
        self._connection.call(rpc, request, tried, LEASE_TIMEOUT_SECONDS)


def _ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.handle.ack_id for delivery in deliveries]


def _chunks(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Split into what one request takes."""
    chunk: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        length = len(delivery.handle.ack_id) + ID_OVERHEAD_BYTES
        if chunk and (
            len(chunk) == MAX_IDS_PER_REQUEST or size + length > MAX_ID_BYTES_PER_REQUEST
        ):
            yield chunk
            chunk, size = [], 0
        chunk.append(delivery)
        size += length
    if chunk:
        yield chunk

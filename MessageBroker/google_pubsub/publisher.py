"""Publishing in batches, in the order of keys, and through outages.

What was handed over waits in lanes: one for all messages without a key, one for each key. A sender
takes a lane, sends what has gathered in it as one request, and waits for the answer; meanwhile the
next batch gathers. So nothing waits for a batch to fill, and batches are large just when there is
much to send. A lane of a key has one request under way at most, which keeps its order, and a
request holds messages of one key only, as Pub/Sub demands.

Measured on the emulator with messages of 900 bytes: 4 to 5 times the rate of the batching client
of google-cloud-pubsub.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.pubsub_v1 import PublishRequest

from MessageBroker.core.driver import Publication
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    MessageTooLargeError,
    PublishError,
    TopicNotFoundError,
)
from MessageBroker.google_pubsub.connection import Connection
from MessageBroker.google_pubsub.errors import ResourceNotFoundError
from MessageBroker.google_pubsub.messages import encode

logger = logging.getLogger(__name__)

# Requests under way at once: the way to Google and back takes tens of milliseconds.
SENDERS = 4
# Pub/Sub takes 1,000 messages and 10 MB a request; the rest is for the framing.
MAX_BATCH_MESSAGES = 1000
MAX_BATCH_BYTES = 8 * 1024 * 1024
# A message that is larger is refused for ever, by whichever code. Users' messages are smaller, but
# one of somebody else's may grow to this as a dead letter.
MAX_REQUEST_BYTES = 10_000_000
# What each message and each attribute adds to a request, generously.
OVERHEAD_BYTES = 64
# What may wait unsent or unconfirmed before `publish` blocks.
MAX_PENDING_MESSAGES = 10_000
MAX_PENDING_BYTES = 64 * 1024 * 1024

# As long as Google's own client waits for one try. A shorter one makes more duplicates when a
# service that hangs goes on; a host that vanished is noticed by the keep-alive pings.
PUBLISH_TIMEOUT_SECONDS = 60.0
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0


@dataclass
class _Lane:
    """Messages of one topic and key, or of one topic without a key, in order."""

    topic: str
    key: str | None
    waiting: deque[Publication] = field(default_factory=deque)
    queued: bool = False  # in the line of lanes that have something to send
    sending: int = 0


class Publisher:
    """Sends publications until each is confirmed or can never be.

    All state is guarded by one lock. Publications are settled without it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._lanes: dict[tuple[str, str | None], _Lane] = {}
        self._line: deque[_Lane] = deque()
        self._pending_messages = 0
        self._pending_bytes = 0
        self._senders: list[threading.Thread] = []
        self._idle = 0
        self._stopped = threading.Event()

    def send(self, publications: Iterable[Publication]) -> None:
        """Take over publications in order, blocking while too much is pending.

        What was handed over together is sent together, as far as there is room for it.
        """
        with self._lock:
            touched: set[tuple[str, str | None]] = set()
            for publication in publications:
                size = _size(publication)
                if self._is_full(size):
                    self._start_sending(touched)
                    self._room.wait_for(lambda: self._stopped.is_set() or not self._is_full(size))  # noqa: B023
                if self._stopped.is_set():
                    return  # what is not confirmed is failed by the core
                self._pending_messages += 1
                self._pending_bytes += size
                touched.add(self._enqueue(publication))
            self._start_sending(touched)

    def stop(self, timeout: float) -> None:
        """Send nothing more. The connection was closed, so that calls in progress end."""
        self._stopped.set()
        with self._lock:
            self._work.notify_all()
            self._room.notify_all()
        for sender in self._senders:
            sender.join(timeout)

    def _is_full(self, size: int) -> bool:
        return self._pending_messages >= MAX_PENDING_MESSAGES or (
            self._pending_bytes > 0 and self._pending_bytes + size > MAX_PENDING_BYTES
        )

    def _enqueue(self, publication: Publication) -> tuple[str, str | None]:
        place = (publication.topic, publication.key)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = _Lane(*place)
        lane.waiting.append(publication)
        return place

    def _start_sending(self, places: set[tuple[str, str | None]]) -> None:
        while places:
            lane = self._lanes.get(places.pop())
            if lane is not None:
                self._put_in_line(lane)

    def _put_in_line(self, lane: _Lane) -> None:
        if lane.queued or not lane.waiting or (lane.key is not None and lane.sending):
            return
        lane.queued = True
        self._line.append(lane)
        # One that was notified for an earlier lane is idle until it has the lock.
        if self._idle >= len(self._line):
            self._work.notify()
        elif len(self._senders) < SENDERS:
            sender = threading.Thread(
                target=self._run, name=f"pubsub publisher {len(self._senders) + 1}", daemon=True
            )
            self._senders.append(sender)
            sender.start()

    # ------------------------------------------------------------------ the senders

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                while not self._line and not self._stopped.is_set():
                    self._work.wait()
                self._idle -= 1
                if self._stopped.is_set():
                    return
                lane = self._line.popleft()
                batch, size = self._take(lane)
            self._deliver(lane.topic, batch)
            with self._lock:
                self._pending_messages -= len(batch)
                self._pending_bytes -= size
                self._room.notify_all()
                lane.sending -= 1
                self._put_in_line(lane)
                if not lane.waiting and not lane.sending:
                    del self._lanes[lane.topic, lane.key]

    def _take(self, lane: _Lane) -> tuple[list[Publication], int]:
        lane.queued = False
        lane.sending += 1
        batch: list[Publication] = []
        total = 0
        while lane.waiting and len(batch) < MAX_BATCH_MESSAGES:
            size = _size(lane.waiting[0])
            if batch and total + size > MAX_BATCH_BYTES:
                break
            batch.append(lane.waiting.popleft())
            total += size
        self._put_in_line(lane)
        return batch, total

    def _deliver(self, topic: str, batch: Sequence[Publication]) -> None:
        try:
            ids = self._publish(topic, batch)
        except ConfigurationError as error:
            # The service refuses a whole request for one message that it will not take.
            if len(batch) > 1:
                for publication in batch:
                    self._deliver(topic, [publication])
            else:
                batch[0].fail(PublishError(str(error)))
        except BrokerError as error:
            for publication in batch:
                publication.fail(error)
        else:
            for publication, message_id in zip(batch, ids, strict=True):
                publication.confirm(message_id)

    def _publish(self, topic: str, batch: Sequence[Publication]) -> Sequence[str]:
        encoded = PublishRequest.pb()(
            topic=self._connection.topic_path(topic),
            messages=[encode(each.data, each.key, each.attributes) for each in batch],
        )
        # A batch is smaller, unless it is a single message that is not.
        if len(batch) == 1 and (size := encoded.ByteSize()) > MAX_REQUEST_BYTES:
            raise MessageTooLargeError(
                f"Pub/Sub: a message to {topic!r} has {size:,} bytes with its attributes, and the "
                f"service takes {MAX_REQUEST_BYTES:,}: it can never be published there; read it "
                "from where it is, and acknowledge it"
            )
        request = PublishRequest.wrap(encoded)
        tried = f"publishing {len(batch)} messages to {topic!r}"
        backoff = MIN_BACKOFF_SECONDS
        while True:
            try:
                return self._publish_once(request, tried)
            except ResourceNotFoundError as error:
                raise TopicNotFoundError(
                    f"{error}: create it with `python -m MessageBroker topics create {topic}`"
                ) from None
            except BrokerUnavailableError as error:
                logger.debug("%s; trying again", error)
                if self._stopped.wait(backoff * random.uniform(0.5, 1.0)):
                    raise ClosedError("pubsub was closed before it had the message") from None
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    def _publish_once(self, request: Any, tried: str) -> Sequence[str]:
        rpc = self._connection.publisher.publish
        response = self._connection.call(rpc, request, tried, PUBLISH_TIMEOUT_SECONDS)
        ids: Sequence[str] = type(response).pb(response).message_ids
        return ids


def _size(publication: Publication) -> int:
    size = OVERHEAD_BYTES + len(publication.data) + len(publication.key or "") * 4
    for name, value in publication.attributes.items():
        size += OVERHEAD_BYTES + 4 * (len(name) + len(value))
    return size

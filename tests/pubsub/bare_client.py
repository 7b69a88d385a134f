"""The generated client of google-cloud-pubsub, with the names of this project's tests."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.pubsub_v1 import (
    PublisherClient,
    PullRequest,
    StreamingPullRequest,
    SubscriberClient,
)
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport


class BareClient:
    """What Pub/Sub itself answers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._project = f"projects/{environment['GOOGLE_CLOUD_PROJECT']}"
        self._channel = grpc.insecure_channel(
            environment["PUBSUB_EMULATOR_HOST"], [("grpc.max_receive_message_length", -1)]
        )
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def close(self) -> None:
        self._channel.close()

    def topic(self, name: str) -> str:
        return f"{self._project}/topics/{name}"

    def subscription(self, name: str) -> str:
        return f"{self._project}/subscriptions/{name}"

    def create(self, name: str, **settings: Any) -> Any:
        """Create a topic and a subscription of the same name."""
        self.publisher.create_topic(name=self.topic(name))
        return self.subscribe(name, name, **settings)

    def subscribe(self, topic: str, name: str, **settings: Any) -> Any:
        return self.subscriber.create_subscription(
            {"name": self.subscription(name), "topic": self.topic(topic), **settings}
        )

    def publish(self, topic: str, *messages: Mapping[str, Any]) -> list[str]:
        request = {"topic": self.topic(topic), "messages": list(messages)}
        return list(self.publisher.publish(request, retry=None).message_ids)

    def pull(self, name: str, timeout: float = 5.0, max_messages: int = 1000) -> list[Any]:
        request = {"subscription": self.subscription(name), "max_messages": max_messages}
        return list(self.subscriber.pull(request, timeout=timeout, retry=None).received_messages)

    def begin_pull(self, name: str) -> grpc.Future:
        """Begin a pull that can be cancelled."""
        request = PullRequest(subscription=self.subscription(name), max_messages=1000)
        return self.subscriber.transport.pull.future(request, timeout=60)

    def pull_until_something_comes(self, name: str) -> list[Any]:
        while not (received := self.pull(name)):
            pass
        return received

    def stream(self, name: str, end: threading.Event, into: queue.Queue[Any]) -> threading.Thread:
        """Put what a streaming pull brings into a queue, until `end` half-closes it."""

        def requests() -> Iterator[Any]:
            yield StreamingPullRequest(
                subscription=self.subscription(name),
                stream_ack_deadline_seconds=60,
                client_id=str(uuid.uuid4()),
            )
            end.wait()

        def run() -> None:
            for response in self.subscriber.streaming_pull(requests=requests(), timeout=60):
                for received in response.received_messages:
                    into.put(received)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def lease(self, name: str, received: Sequence[Any], seconds: int) -> None:
        """Set the ack deadline; 0 gives back."""
        self.subscriber.modify_ack_deadline(
            {
                "subscription": self.subscription(name),
                "ack_ids": [each.ack_id for each in received],
                "ack_deadline_seconds": seconds,
            }
        )

    def ack(self, name: str, received: Sequence[Any]) -> None:
        self.subscriber.acknowledge(
            {
                "subscription": self.subscription(name),
                "ack_ids": [each.ack_id for each in received],
            }
        )

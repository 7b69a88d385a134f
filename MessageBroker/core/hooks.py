"""What a handler fills in; everything else of `BrokerInterface` is written once, in `BrokerCore`.

A hook may trust that names and sizes were checked, and that nothing is called after `_shutdown`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from MessageBroker.configuration import DeliverySettings
from MessageBroker.core.driver import AwaitedBatch, Batch, Stream
from MessageBroker.errors import MessageNotFoundError

if TYPE_CHECKING:
    from MessageBroker.message import Message


class HandlerHooks(ABC):
    """The calls that a broker answers for itself."""

    name: str

    clock_tolerance = timedelta(seconds=5)
    """How far the clock that gives messages their time may be from this machine's."""

    @classmethod
    @abstractmethod
    def from_config(cls, config_dir: Path, delivery: DeliverySettings) -> Self:
        """Create the handler from its INI file in `config_dir` and the environment."""

    @abstractmethod
    def _create_topics(self, wanted: Mapping[str, str]) -> set[str]:
        """Create what is missing of these topics and subscriptions, in this order.

        Args:
            wanted: topics to their default subscriptions, which miss nothing.

        Returns:
            The topics that are new. All of them can be used now.
        """

    @abstractmethod
    def _delete_topic(self, topic: str) -> bool:
        """Delete a topic and its subscriptions; True if it was there."""

    @abstractmethod
    def _list_topics(self) -> list[str]:
        """Name all topics but the broker's internal ones."""

    @abstractmethod
    def _has_topic(self, topic: str) -> bool:
        """Look a topic up, without ever creating it, within 10 seconds."""

    def _prepare_publishing(self, topic: str) -> None:  # noqa: B027 - it may stay as it is
        """See `prepare_publishing`; most brokers need nothing."""

    @abstractmethod
    def _send(self, batch: Batch) -> None:
        """Hand messages to the client in order, blocking while its buffer is full.

        Each is confirmed or failed once, later, from any thread.
        """

    def _await(self, batch: AwaitedBatch) -> None:
        """Wait until all of a batch that was sent are confirmed or failed."""
        batch.settled.wait()

    @abstractmethod
    def _open_stream(self, topic: str, subscription_id: str) -> Stream:
        """Create the subscription if it is missing, and join it as a consumer."""

    @abstractmethod
    def _delete_subscription(self, topic: str, subscription_id: str) -> bool:
        """Delete a subscription of an existing topic; True if it was there.

        Raises:
            ConfigurationError: it belongs to another topic.
        """

    @abstractmethod
    def _backlog(self, topic: str, subscription_id: str) -> int | None:
        """Count what is not acknowledged; None where the broker cannot tell."""

    def _read_place(self, place: str) -> list[Message]:
        """See `read_place`; where acknowledged messages are gone, none can be read."""
        raise MessageNotFoundError(
            f"{self.name}: what stood at {place!r} was acknowledged, and is read from there no more"
        )

    def _published_since_now(self, topic: str) -> Callable[[Message], bool]:  # noqa: ARG002
        """Return a test that is never true of a message that was there before this call.

        It may be false of some that came later. Here it goes by their time; better where the
        broker numbers its messages.
        """
        newest = datetime.now(UTC) + self.clock_tolerance
        return lambda message: message.publish_time > newest

    @abstractmethod
    def _ping(self, timeout: float) -> None:
        """Raise unless the broker answers and takes the credentials."""

    @abstractmethod
    def _shutdown(self, timeout: float) -> None:
        """Release the client. What was not confirmed by now is failed by the core afterwards."""

"""Publishing to the embedded broker: one transaction for each group of the outbox of a topic.

While a transaction waits for the disk, the next messages gather, and go together: one fsync serves
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import uuid_utils

from MessageBroker.core.driver import Publication
from MessageBroker.core.outbox import LaneName, Limits
from MessageBroker.errors import BrokerError, BrokerReplacedError, TopicNotFoundError
from MessageBroker.local.log import NewMessage
from MessageBroker.local.store import TopicStore

LIMITS = Limits(
    senders=1,
    # One transaction: large enough to spread the cost of its fsync, small enough that another
    # process waits for the file for a few milliseconds only. Sizes are counted generously: it is
    # 1,024 small images with their attributes, what `app_1` publishes at once.
    group_messages=1024,
    group_bytes=2 * 1024 * 1024,
    pending_messages=10_000,
    pending_bytes=32 * 1024 * 1024,
)


def lane_of(publication: Publication) -> LaneName:
    """Keep all messages of a topic in order."""
    return publication.topic, ""


class LocalPublisher:
    """Writes groups of messages of one topic. For one thread at a time."""

    def __init__(
        self, open_store: Callable[[], TopicStore], path_of_topic: Callable[[], Path | None]
    ) -> None:
        """Open nothing yet.

        Args:
            open_store: opens the topic's file; see `Catalogue.open`.
            path_of_topic: where that is now, by the catalogue; None if there is no such topic.
        """
        self._open_store = open_store
        self._path_of_topic = path_of_topic
        self._store: TopicStore | None = None

    def write(self, publications: Sequence[Publication]) -> Sequence[str]:
        """Append to the topic as it is now: others may have deleted it and made it again.

        Returns:
            The ids.

        Raises:
            BrokerError: see `Catalogue.open` and `TopicStore.append`.
        """
        ids = [str(uuid_utils.uuid7()) for _ in publications]
        self._append(_messages(publications, ids))
        return ids

    def close(self) -> None:
        """Close the topic's file."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _append(self, messages: Sequence[NewMessage]) -> None:
        if self._store is None or not self._took(self._store, messages):
            self._store = self._open_store()
            if not self._took(self._store, messages):
                self._store = self._open_store()
                self._store.append(messages)

    def _took(self, store: TopicStore, messages: Sequence[NewMessage]) -> bool:
        """Append to a file; False, and the file closed, if it is not the topic's any more.

        While a topic is deleted its files go one by one, so that one of them may look as if it
        were taken away. The catalogue tells; the file itself must not be looked at again.
        """
        try:
            store.append(messages)
        except TopicNotFoundError:
            self.close()
            return False
        except BrokerReplacedError:
            self.close()
            if self._path_of_topic() == store.path:
                raise
            return False
        except BrokerError:
            self.close()  # another file may stand there the next time
            raise
        return True


def _messages(publications: Sequence[Publication], ids: Sequence[str]) -> list[NewMessage]:
    return [
        NewMessage(
            message_id,
            each.key,
            attributes if type(attributes := each.attributes) is dict else dict(attributes),
            each.data,
        )
        for each, message_id in zip(publications, ids, strict=True)
    ]

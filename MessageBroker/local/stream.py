"""Consuming from the embedded broker: one consumer of one subscription."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from MessageBroker.core.driver import Stream
from MessageBroker.errors import BrokerUnavailableError
from MessageBroker.local.consumers import RENEW_SECONDS
from MessageBroker.local.doorbell import Heard
from MessageBroker.local.store import TopicStore
from MessageBroker.message import Delivery, Message


class LocalStream(Stream):
    """Claims ranges of the topic's log. A delivery's handle is its sequence number.

    Two connections: one for the receiving thread, which may wait, and one for acks and leases.
    """

    renew_interval = RENEW_SECONDS

    def __init__(self, open_store: Callable[[], TopicStore], subscription_id: str) -> None:
        """Register as a consumer of the subscription.

        Args:
            open_store: opens the topic's file once more.
            subscription_id: an existing subscription of the topic.

        Raises:
            BrokerError: the file cannot be used; see `TopicStore`.
        """
        self._subscription = subscription_id
        self._settling = threading.Lock()
        self._deliveries: dict[int, Delivery] = {}  # what this consumer holds; under _settling
        self._took_all = False  # nothing was left, and no bell was heard since
        self._unread: list[int] = []  # claimed, and not to be read; under _settling
        self._consumer = str(uuid.uuid4())
        with contextlib.ExitStack() as opened:
            self._claims = opened.enter_context(contextlib.closing(open_store()))
            self._settles = opened.enter_context(contextlib.closing(open_store()))
            self._bell = opened.enter_context(
                contextlib.closing(self._claims.doorbell(self._consumer))
            )
            self._settles.join(self._subscription, self._consumer)
            self._opened = opened.pop_all()

    def fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        """See `Stream.fetch`."""
        deadline = time.monotonic() + timeout
        # The next look is spared where all was taken since the bell rang last; it rings for more.
        # A ring that was lost costs one call, which is short.
        looks, self._took_all = not self._took_all, False
        heard = Heard.NOTHING
        while True:
            # Looking first spares the others a transaction; a bell that rang tells as much.
            if heard is Heard.RING or (looks and self._claims.has_work(self._subscription)):
                messages = self._claim(max_messages, max_bytes)
                if messages:
                    size = sum([len(each.data) for each in messages])
                    self._took_all = len(messages) < max_messages and size < max_bytes
                    return messages
            heard = self._bell.wait(deadline - time.monotonic())
            if heard is Heard.NOTHING:
                return []
            looks = True  # also for who only knocked: what was run just now runs twice as fast

    def _claim(self, max_messages: int, max_bytes: int) -> list[Message]:
        claimed = self._claims.claim(self._subscription, self._consumer, max_messages, max_bytes)
        if claimed is None:
            self._rejoin()
            return []
        try:
            messages = self._claims.read(claimed)
        except BaseException:  # whatever it was: nobody else can free them
            self._give_up_unread(claimed.ranges)
            raise
        with self._settling:
            for each in messages:
                self._deliveries[each.delivery.handle] = each.delivery
        return messages

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """See `Stream.acknowledge`."""
        with self._settling:
            seqs = self._held_among(deliveries)
            settled = self._settles.acknowledge(self._subscription, self._consumer, seqs)
            self._drop(seqs)
        return len(deliveries) - settled

    def renew(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - one row for all
        """See `Stream.renew`."""
        with self._settling:
            self._free_unread()
            if not self._bell.hangs:
                self._settles.hang_again(self._bell)
            alive = self._settles.renew(self._consumer)
        if not alive:
            self._rejoin()

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """See `Stream.release`."""
        with self._settling:
            seqs = self._held_among(deliveries)
            self._settles.release(self._subscription, self._consumer, seqs)
            self._drop(seqs)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`. The embedded broker does not assign."""
        return True

    def close(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all at once
        """See `Stream.close`."""
        with self._settling:
            try:
                self._settles.leave(self._consumer)
            finally:
                self._opened.close()

    def _rejoin(self) -> None:
        """Begin anew after others gave this consumer up for dead (it was stopped, say).

        With a new bell: without one it would be given up again at once.
        """
        with self._settling:
            self._settles.hang_again(self._bell)
            self._settles.join(self._subscription, self._consumer)
            lost = list(self._deliveries.values())
            self._deliveries.clear()
            self._unread.clear()
        self.on_lost(lost)

    def _give_up_unread(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Free what was claimed and could not be read: nobody would ever hand it out."""
        with self._settling:
            self._unread += [seq for first, last in ranges for seq in range(first, last + 1)]
            with contextlib.suppress(BrokerUnavailableError):  # then at the next renewal
                self._free_unread()

    def _free_unread(self) -> None:
        if self._unread:
            self._settles.release(self._subscription, self._consumer, self._unread)
            self._unread.clear()

    def _held_among(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Leave out deliveries of an earlier life of this consumer."""
        return [each.handle for each in deliveries if self._deliveries.get(each.handle) is each]

    def _drop(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            del self._deliveries[seq]

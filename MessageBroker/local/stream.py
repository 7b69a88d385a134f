"""Consuming from the embedded broker: one consumer of one subscription."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from MessageBroker.core.driver import Stream
from MessageBroker.local.consumers import RENEW_SECONDS
from MessageBroker.local.doorbell import Heard
from MessageBroker.local.store import TopicStore
from MessageBroker.local.turnstile import PATIENCE_SECONDS, LockedError
from MessageBroker.message import Delivery, Message

# What a fetch waits for others at least, also one that was to wait for nothing: a few of their
# transactions (s).
LEAST_PATIENCE_SECONDS = 0.1
# What an application that settles waits for others, and for its own leases' renewal: some hundreds
# of transactions. The core settles later what could not be settled by then (s).
SETTLE_PATIENCE_SECONDS = 1.0


class LocalStream(Stream):
    """Claims ranges of the topic's log. A delivery's handle is its sequence number.

    Two connections: one for the receiving thread, which waits no longer than it was told to, and
    one for acks and leases. Of its users the thread that keeps the leases waits for others as long
    as they may take, and an application that settles does not. `_settling` is held around it;
    `_noting` for moments, around what both connections know.
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
        self._noting = threading.Lock()
        self._deliveries: dict[int, Delivery] = {}  # what this consumer holds; under _noting
        self._unread: list[int] = []  # claimed, and not to be read; under _noting
        self._took_all = False  # nothing was left, and no bell was heard since
        self._locked_since: float | None = None  # fetches find the file locked from then on
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
        """See `Stream.fetch`.

        Others write in between all the time. That nothing comes because of them is an outage only
        once it has lasted for as long as whoever writes would wait.
        """
        try:
            messages = self._fetch(max_messages, max_bytes, timeout)
        except LockedError:
            now = time.monotonic()
            self._locked_since = self._locked_since or now
            if now - self._locked_since < PATIENCE_SECONDS:
                return []
            raise
        self._locked_since = None
        return messages

    def _fetch(self, max_messages: int, max_bytes: int, timeout: float) -> list[Message]:
        deadline = time.monotonic() + timeout
        # The next look is spared where all was taken since the bell rang last; it rings for more.
        # A ring that was lost costs one call, which is short.
        looks, self._took_all = not self._took_all, False
        heard = Heard.NOTHING
        while True:
            # Looking first spares the others a transaction; a bell that rang tells as much.
            if heard is Heard.RING or (looks and self._claims.has_work(self._subscription)):
                patience = max(LEAST_PATIENCE_SECONDS, deadline - time.monotonic())
                messages = self._claim(max_messages, max_bytes, patience)
                if messages:
                    size = sum([len(each.data) for each in messages])
                    self._took_all = len(messages) < max_messages and size < max_bytes
                    return messages
            heard = self._bell.wait(deadline - time.monotonic())
            if heard is Heard.NOTHING:
                return []
            looks = True  # also for who only knocked: what was run just now runs twice as fast

    def _claim(self, max_messages: int, max_bytes: int, patience: float) -> list[Message]:
        claimed = self._claims.claim(
            self._subscription, self._consumer, max_messages, max_bytes, patience
        )
        if claimed is None:
            self._rejoin(patience)
            return []
        try:
            messages = self._claims.read(claimed)
        except BaseException:  # whatever it was: nobody else can free them; `renew` does
            with self._noting:
                for first, last in claimed.ranges:
                    self._unread.extend(range(first, last + 1))
            raise
        with self._noting:
            for each in messages:
                self._deliveries[each.delivery.handle] = each.delivery
        return messages

    def acknowledge(self, deliveries: Sequence[Delivery]) -> int:
        """See `Stream.acknowledge`."""
        with self._settling_soon() as patience:
            held = self._held_among(deliveries)
            settled = self._settles.acknowledge(
                self._subscription, self._consumer, _seqs(held), patience
            )
            self._drop(held)
        return len(deliveries) - settled

    @contextlib.contextmanager
    def _settling_soon(self) -> Iterator[float]:
        """Hold the second connection; give the seconds that are left to wait for other processes.

        Raises:
            LockedError: the other thread waits for them already.
        """
        deadline = time.monotonic() + SETTLE_PATIENCE_SECONDS
        if not self._settling.acquire(timeout=SETTLE_PATIENCE_SECONDS):
            raise LockedError(
                f"local broker: the renewal of leases has waited for {self._settles.path} for "
                f"{SETTLE_PATIENCE_SECONDS:g} s"
            )
        try:
            yield max(0.0, deadline - time.monotonic())
        finally:
            self._settling.release()

    def renew(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - one row for all
        """See `Stream.renew`."""
        with self._settling:
            self._free_unread()
            self._settles.keep_hung(self._bell)
            alive = self._settles.renew(self._consumer)
        if not alive:
            self._rejoin()

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """See `Stream.release`."""
        with self._settling_soon() as patience:
            held = self._held_among(deliveries)
            self._settles.release(self._subscription, self._consumer, _seqs(held), patience)
            self._drop(held)

    @property
    def ready(self) -> bool:
        """See `Stream.ready`. The embedded broker does not assign, but others may have the file."""
        return self._locked_since is None

    def close(self, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002 - all at once
        """See `Stream.close`."""
        with self._settling:
            try:
                self._settles.leave(self._consumer)
            finally:
                self._opened.close()

    def _rejoin(self, patience: float = PATIENCE_SECONDS) -> None:
        """Begin anew after others gave this consumer up for dead (it was stopped, say).

        With a new bell: without one it would be given up again at once. Where that takes longer
        than `patience`, the next fetch or renewal tries again.
        """
        if not self._settling.acquire(timeout=patience):
            return
        lost: list[Delivery] = []
        try:
            if self._settles.renew(self._consumer, patience):
                return  # the other thread was quicker
            self._settles.hang_again(self._bell)
            with self._noting:  # before it joins: what is claimed from then on is held
                lost += self._deliveries.values()
                self._deliveries.clear()
                self._unread.clear()
            self._settles.join(self._subscription, self._consumer, patience)
        finally:
            self._settling.release()
            self.on_lost(lost)

    def _free_unread(self) -> None:
        """Free what was claimed and could not be read: nobody would ever hand it out."""
        with self._noting:
            unread = list(self._unread)
        if unread:
            self._settles.release(self._subscription, self._consumer, unread)
            with self._noting:
                del self._unread[: len(unread)]

    def _held_among(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Leave out deliveries of an earlier life of this consumer."""
        with self._noting:
            return [each for each in deliveries if self._deliveries.get(each.handle) is each]

    def _drop(self, deliveries: Sequence[Delivery]) -> None:
        """Forget those that are not held any more; one that was released may be held anew."""
        with self._noting:
            for each in deliveries:
                if self._deliveries.get(each.handle) is each:
                    del self._deliveries[each.handle]


def _seqs(deliveries: Sequence[Delivery]) -> list[int]:
    return [each.handle for each in deliveries]

"""`RedisQueue`: a queue of results in a stream of Redis or Valkey; producers on any host.

What the keys are, who may do what when, and which crash each recovery is for stand at the head of
`Queue.redis`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import OutOfMemoryError

from DurableText.patience import taken_in_time
from DurableText.program.forks import Opener
from DurableText.progress import Advance, uncounted
from Queue.errors import (
    QueueClosedError,
    QueueError,
    QueueFullError,
    QueuePassingError,
    opened_to_look,
)
from Queue.queue_interface import QueueBatch, QueueVerification, Record, ResultQueue
from Queue.records import bodies_of
from Queue.redis import status as reports
from Queue.redis.consumer import RedisConsumer, SharingConsumer, StrictConsumer
from Queue.redis.entries import RedisBatch
from Queue.redis.fitness import require_fitness
from Queue.redis.identity import Identity, parse_id
from Queue.redis.renewal import Renewal
from Queue.redis.replication import Replication
from Queue.redis.scripts import PUT
from Queue.redis.session import ANSWER_SECONDS, Ask, RedisSession
from Queue.redis.status import RedisStatus
from Queue.redis.url import parse

logger = logging.getLogger(__name__)

# How long the server lets a `take` wait before it looks whether the queue is being closed.
BLOCK_SECONDS = 0.5

# Pause of a standby between two looks at the lock, and of a put between two looks for room.
STANDBY_SECONDS = 0.2
ROOM_PAUSE_SECONDS = 0.05

# So long `close` waits for a `take` of another thread, and then for the server.
CLOSE_SECONDS = 2.0


class RedisQueue(ResultQueue):
    """A queue in the stream that a URL names."""

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        state_dir: Path | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Connect, and make the stream unless it is there.

        Args:
            url: `redis://host:6379/0?stream=results`: see `url`.
            read_only: make and change nothing; connect when it is first asked for something.
            state_dir: where this host remembers what the stream had; None: nowhere.
            answer_seconds: how long an answer may take before the server counts as hung.

        Raises:
            QueueConfigurationError: the URL is wrong, the server refuses or loses what it confirms,
                or the stream is somebody else's.
            QueueUnavailableError: the server is away.
        """
        self._url = parse(url)
        self.name = self._url.name
        self.shared = self._url.shared
        self._read_only = read_only
        stream = self._url.stream
        # The braces keep the three on one node of a cluster.
        self._mark_key, self._lock_key = f"{{{stream}}}:queue", f"{{{stream}}}:lock"
        self._opener = Opener(f"{self.name}: this queue", QueueClosedError)
        self._closing = threading.Event()
        self._take_lock = threading.RLock()
        self._identity = Identity(self.name, None if read_only else state_dir)
        keys = (stream, self._mark_key, self._lock_key)
        self._session = RedisSession(self._url, keys, self._greet, answer_seconds)
        self._replication = Replication(self._url, answer_seconds)
        self._consumer: RedisConsumer | None = None
        self._renewal = Renewal(self._url.lease / 3)
        if not read_only:
            try:
                self._session.ask("PING", action="open")
            except BaseException:
                self._identity.close()
                self._session.close()
                raise

    def _greet(self, ask: Ask) -> None:
        """Find out, on each new connection, whether the server is fit and the queue the same."""
        if self._read_only:
            ask("PING")  # which needs the password, if there is one
            return
        self._replication.forget()
        require_fitness(ask, self._url)
        self._identity.make(self._session, ask)

    @property
    def active(self) -> bool:
        """See `ResultQueue.active`."""
        return self._consumer is not None and self._consumer.takes

    # --- producing ---

    def put(self, records: Sequence[Record], timeout: float | None = None) -> None:
        """See `ResultQueue.put`.

        One script appends all of them: they stand together, and are synced together. With
        `replicas=` it returns once so many have them: what that promises stands in `replication`.
        """
        self._check_usable()
        bodies = bodies_of(records)
        if not bodies:
            return
        if len(bodies) > self._url.max_records:
            raise QueueFullError(
                f"{self.name}: {len(bodies)} records can never fit into max_records="
                f"{self._url.max_records}; put fewer at a time, or raise max_records"
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        while (why := self._try_put(bodies, deadline)) is not None:
            left = ROOM_PAUSE_SECONDS
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    raise QueueFullError(
                        f"{self.name}: full, {why}; publishers must catch up; nothing of this put "
                        "was written"
                    )
            self._closing.wait(left)
            self._check_usable()

    def _try_put(self, bodies: list[bytes], deadline: float | None) -> str | None:
        """Append; say why if there is no room."""
        if deadline is not None:
            self._session.require_answer(deadline)
        arguments = (self._identity.mark, self._url.max_records, *bodies)
        with self._session.connected("append to") as ask:
            try:
                if self._url.replicas:
                    answer = self._replication.append(
                        ask, bodies, deadline, lambda: self._append(ask, arguments)
                    )
                else:
                    answer = self._append(ask, arguments)
            except OutOfMemoryError as error:
                return f"its server's memory is ({error}; maxmemory)"
        if isinstance(answer, int):
            return f"{answer} of max_records={self._url.max_records} are in it"
        self._identity.saw(parse_id(answer))
        return None

    def _append(self, ask: Ask, arguments: tuple[Any, ...]) -> Any:
        return self._session.run_on(ask, PUT, arguments)

    def flush(self) -> None:
        """See `ResultQueue.flush`: what a put returned for is durable already."""
        self._check_usable()

    # --- consuming ---

    def take(self, max_records: int = 256, timeout: float | None = None) -> RedisBatch:
        """See `ResultQueue.take`."""
        if max_records < 1:
            raise QueueError(f"max_records must be at least 1, not {max_records}")
        self._check_usable()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not taken_in_time(self._take_lock, deadline):
            return RedisBatch()
        try:
            with self._session.within(deadline):
                return self._take(max_records, deadline)
        finally:
            self._take_lock.release()

    def _take(self, max_records: int, deadline: float | None) -> RedisBatch:
        consumer = self._consumer
        if consumer is None:
            kind = SharingConsumer if self.shared else StrictConsumer
            consumer = self._consumer = kind(self._session, self._url, self._identity)
        while True:
            self._check_usable()
            self._renewal.raise_trouble()
            left = BLOCK_SECONDS
            if deadline is not None:
                left = max(0.0, min(left, deadline - time.monotonic()))
            if consumer.acquire():
                self._renewal.start(consumer.renew)
                batch = consumer.take(max_records, left)
                if batch or left <= 0:
                    return batch
            elif left <= 0:
                return RedisBatch()
            else:
                self._closing.wait(min(left, STANDBY_SECONDS))

    def commit(self, batch: QueueBatch) -> None:
        """See `ResultQueue.commit`. Nothing is kept aside: a server has no place for it."""
        self._check_usable()
        if batch and self._consumer is not None:
            assert isinstance(batch, RedisBatch), "the batch of another queue"
            self._consumer.commit(batch)

    # --- looking ---

    def status(self) -> RedisStatus:
        """See `ResultQueue.status`."""
        self._require_open()
        return reports.status(self._session, self._url, self._mark_key, self._lock_key)

    def verify(self, advance: Advance = uncounted) -> QueueVerification:
        """See `ResultQueue.verify`."""
        self._require_open()
        return reports.verify(self._session, self._url, self._mark_key, advance)

    def check(self, timeout: float) -> None:
        """See `ResultQueue.check`: a connection of its own is made, and the server looked at."""
        self._require_open()
        self._session.try_out(timeout)

    def close(self) -> None:
        """See `ResultQueue.close`.

        Others go on at once; where the server is away, or a `take` of another thread hangs with it,
        after the lease.
        """
        if self._closing.is_set() or self._opener.is_another_process:
            return
        self._closing.set()
        self._renewal.stop()
        taken = self._take_lock.acquire(timeout=CLOSE_SECONDS)
        try:
            if taken and self._consumer is not None:
                self._session.hurry(CLOSE_SECONDS)
                self._consumer.leave()
        except QueuePassingError as error:
            logger.info("%s; others go on after %g s", error, self._url.lease)
        except QueueError as error:
            logger.debug("nothing to leave: %s", error)
        finally:
            if taken:
                self._take_lock.release()
            self._session.close()
            with contextlib.suppress(OSError):
                self._identity.close()

    def _check_usable(self) -> None:
        self._require_open()
        if self._read_only:
            raise opened_to_look(self.name)

    def _require_open(self) -> None:
        self._opener.require()
        if self._closing.is_set():
            raise QueueClosedError(f"{self.name}: the queue is closed")

"""Publishing to the embedded broker: one thread a topic writes what all others publish.

While it waits for the disk, the next messages gather, and go together: one fsync serves them all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import orjson
import uuid_utils

from MessageBroker.core.driver import Publication
from MessageBroker.errors import (
    BrokerError,
    BrokerUnavailableError,
    ClosedError,
    TopicNotFoundError,
)
from MessageBroker.local.store import Row, TopicStore

logger = logging.getLogger(__name__)

# One transaction: large enough to spread the cost of its fsync, small enough that another
# process waits for the file for a few milliseconds only.
MAX_TRANSACTION_MESSAGES = 1024
MAX_TRANSACTION_BYTES = 1024 * 1024
# What may wait in memory before `publish` blocks.
MAX_BUFFERED_MESSAGES = 10_000
MAX_BUFFERED_BYTES = 32 * 1024 * 1024
RETRY_SECONDS = 0.5

_thread = threading.local()  # `writes`: this thread is a publisher's


class LocalPublisher:
    """Writes the messages of one topic, in the order in which they were handed over."""

    def __init__(self, open_store: Callable[[], TopicStore], topic: str) -> None:
        self._open_store = open_store
        self._store: TopicStore | None = None
        self._waiting: deque[Publication] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"publisher of {topic}", daemon=True)
        self._thread.start()

    def send(self, publications: Iterable[Publication]) -> None:
        """Hand over messages, blocking while too many wait.

        Callbacks of futures run in the threads that write. They never wait: for themselves they
        would wait for ever.
        """
        may_wait = not getattr(_thread, "writes", False)
        for publication in publications:
            with self._changed:
                while may_wait and self._is_full() and not self._stopping.is_set():
                    self._changed.wait()
                if self._stopping.is_set():
                    publication.fail(ClosedError("the local broker was closed"))
                    continue
                self._waiting.append(publication)
                self._bytes += len(publication.data)
                if len(self._waiting) == 1:
                    self._changed.notify_all()

    def stop(self, timeout: float) -> None:
        """Stop after the transaction that is being written; what waits is left unconfirmed."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout)

    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_BUFFERED_MESSAGES or self._bytes >= MAX_BUFFERED_BYTES

    def _run(self) -> None:
        _thread.writes = True
        away = False
        while group := self._next_group():
            try:
                ids = [uuid_utils.uuid7() for _ in group]
                self._append(_rows(group, ids))
            except BrokerUnavailableError as error:
                if not away:
                    logger.warning("%s; waiting for it", error)
                away = True
                self._put_back(group)
                self._stopping.wait(RETRY_SECONDS)
                continue
            except BrokerError as error:
                for publication in group:
                    publication.fail(error)
                continue
            away = False
            for publication, message_id in zip(group, ids, strict=True):
                publication.confirm(str(message_id))
        self._close_store()

    def _append(self, rows: Sequence[Row]) -> None:
        """Append to the topic as it is now: others may have deleted it and made it again."""
        if self._store is not None:
            try:
                self._store.append(rows)
            except TopicNotFoundError:
                self._close_store()
            except BrokerError:
                self._close_store()  # another file may stand there the next time
                raise
            else:
                return
        self._store = self._open_store()
        self._store.append(rows)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _next_group(self) -> list[Publication]:
        """Wait for messages and take those of the next transaction; `[]` at the end."""
        with self._changed:
            while not self._waiting and not self._stopping.is_set():
                self._changed.wait()
            if self._stopping.is_set():
                return []
            group: list[Publication] = []
            size = 0
            while self._waiting and len(group) < MAX_TRANSACTION_MESSAGES:
                size += len(self._waiting[0].data)
                if group and size > MAX_TRANSACTION_BYTES:
                    break
                group.append(self._waiting.popleft())
            self._bytes -= sum(len(publication.data) for publication in group)
            self._changed.notify_all()
        return group

    def _put_back(self, group: Sequence[Publication]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(group))
            self._bytes += sum(len(publication.data) for publication in group)


def _rows(group: Sequence[Publication], ids: Sequence[uuid_utils.UUID]) -> list[Row]:
    now_ms = time.time_ns() // 1_000_000
    rows = []
    for publication, message_id in zip(group, ids, strict=True):
        attributes = _json(publication.attributes) if publication.attributes else None
        rows.append((message_id.bytes, now_ms, publication.key, attributes, publication.data))
    return rows


def _json(attributes: Mapping[str, str]) -> bytes:
    try:
        return orjson.dumps(dict(attributes))
    except TypeError:  # a name of a class that is derived from `str`; it takes longer to look
        return orjson.dumps(dict(attributes), option=orjson.OPT_NON_STR_KEYS)

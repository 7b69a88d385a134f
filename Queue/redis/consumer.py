"""Taking from a stream: alone and in strict order, or beside others.

Alone (`consumers=one`) a lock with a lease says who takes. It reads by ids, which is no write, and
a commit removes all up to an id, fenced by the lock: one that was superseded while it hung changes
nothing. Beside others (`consumers=many`) a consumer group deals the records out; a commit removes
each, and what somebody keeps for longer than the lease without a sign of life goes to another one.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence

from Queue.errors import QueueOrderError, QueueUnavailableError
from Queue.redis.entries import Entry, RedisBatch, read_entries
from Queue.redis.identity import Identity, in_text, parse_id
from Queue.redis.scripts import (
    COMMIT_EACH,
    COMMIT_UP_TO,
    FORGET,
    GROUP,
    HOLD,
    LEAVE,
    RELEASE,
    RENEW,
)
from Queue.redis.session import RedisSession
from Queue.redis.url import RedisUrl

logger = logging.getLogger(__name__)

# Between two looks for what the dead have left, where nobody knows when they die.
CLAIM_SECONDS = 1.0

# A consumer that said nothing for so long, and has nothing, is forgotten.
FORGOTTEN_AFTER_SECONDS = 3600.0

# What one consumer holds is far below: two or three batches.
MOST_HELD = 1_000_000

# Whoever goes leaves what it has to nobody, as old as if its lease were over.
NOBODY = "left"


class RedisConsumer(ABC):
    """One that takes. `take` is called by one thread at a time, and so is `commit`."""

    def __init__(self, session: RedisSession, url: RedisUrl, identity: Identity) -> None:
        self._session = session
        self._url = url
        self._identity = identity
        self._lease = int(url.lease * 1000)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Take under another name: what was taken under the old one may be another's by now."""
        self.token = f"process {os.getpid()} on {socket.gethostname()} {uuid.uuid4().hex[:8]}"
        self._taken = 0
        self._committed = 0
        self._held: set[bytes] = set()

    @property
    @abstractmethod
    def takes(self) -> bool:
        """This one takes; else it stands by."""

    @abstractmethod
    def acquire(self) -> bool:
        """Tell whether this one may take; ask for it if not."""

    @abstractmethod
    def renew(self) -> None:
        """Give a sign of life."""

    @abstractmethod
    def leave(self) -> None:
        """Let others have at once what was taken and not committed."""

    def take(self, max_records: int, seconds: float) -> RedisBatch:
        """Return what is there, waiting for so long at most."""
        entries = self._read(max_records, int(seconds * 1000))
        if not entries:
            return RedisBatch()
        records, corrupt = read_entries(self._url.stream, entries)
        ids = tuple(entry[0] for entry in entries)
        self._held.update(ids)
        self._taken += 1
        self._identity.saw(max(map(parse_id, (ids[0], ids[-1]))))
        return RedisBatch(records, corrupt, ids, self._taken, self.token)

    def commit(self, batch: RedisBatch) -> None:
        """Remove a batch. One of a consumer that was superseded is late, and changes nothing."""
        if batch.token != self.token or batch.ordinal <= self._committed:
            return
        if batch.ordinal != self._committed + 1:
            raise QueueOrderError(
                f"{self._url.name}: batch {batch.ordinal} committed, but batch "
                f"{self._committed + 1} is next; commit in the order of the takes"
            )
        self._remove(batch)
        self._committed = batch.ordinal
        self._held.difference_update(batch.ids)

    @abstractmethod
    def _read(self, max_records: int, milliseconds: int) -> Sequence[Entry]:
        """Return the next entries that were not handed out yet."""

    @abstractmethod
    def _remove(self, batch: RedisBatch) -> None:
        """Remove a batch from the stream, durably."""

    def _read_stream(
        self, command: Sequence[str], max_records: int, milliseconds: int, behind: str
    ) -> Sequence[Entry]:
        block = ("BLOCK", milliseconds) if milliseconds > 0 else ()  # 0 would wait for ever
        answer = self._session.ask(
            *command, "COUNT", max_records, *block, "STREAMS", self._url.stream, behind
        )
        found: Sequence[Entry] = answer[0][1] if answer else ()
        return found


class StrictConsumer(RedisConsumer):
    """The one that takes, in strict order, while it holds the lock."""

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._behind = "0-0"  # what was committed is gone: the first that is there is the next
        self._superseded = False
        self._holds = False
        self._told = ""

    @property
    def takes(self) -> bool:
        """See `RedisConsumer.takes`."""
        return self._holds and not self._superseded

    def acquire(self) -> bool:
        """See `RedisConsumer.acquire`."""
        if self._superseded:
            self._begin_anew()
        if not self._holds:
            holder = self._hold()
            self._holds = holder == self.token
            if not self._holds and holder != self._told:
                logger.info("%s: %s takes; standing by", self._url.name, holder)
                self._told = holder
        return self._holds

    def renew(self) -> None:
        """See `RedisConsumer.renew`."""
        if self._holds and not self._superseded:
            self._look_who_holds(self._hold())

    def leave(self) -> None:
        """See `RedisConsumer.leave`."""
        if self._holds:
            self._session.run(RELEASE, self._identity.mark, self.token, action="leave")

    def _hold(self) -> str:
        holder: bytes = self._session.run(
            HOLD, self._identity.mark, self.token, self._lease, action="take from"
        )
        return holder.decode(errors="replace")

    def _read(self, max_records: int, milliseconds: int) -> Sequence[Entry]:
        entries = self._read_stream(("XREAD",), max_records, milliseconds, self._behind)
        if entries:
            self._behind = entries[-1][0].decode()
        return entries

    def _remove(self, batch: RedisBatch) -> None:
        last, number = parse_id(batch.ids[-1])
        holder: bytes = self._session.run(
            COMMIT_UP_TO,
            self._identity.mark,
            self.token,
            in_text((last, number + 1)),
            action="commit to",
        )
        self._look_who_holds(holder.decode(errors="replace"))

    def _look_who_holds(self, holder: str) -> None:
        if holder != self.token and not self._superseded:
            self._superseded = True
            logger.warning(
                "%s: %s has taken over, as this one gave no sign of life for %g s; what was taken "
                "and not committed goes out twice",
                self._url.name,
                holder,
                self._url.lease,
            )


class SharingConsumer(RedisConsumer):
    """One of several in the consumer group."""

    def __init__(self, session: RedisSession, url: RedisUrl, identity: Identity) -> None:
        super().__init__(session, url, identity)
        self._known = False
        # An answer was lost: what stood in it is this one's, and was not handed out.
        self._lost_answer = False
        self._claimed_at = -math.inf
        self._claim_from = "0-0"

    @property
    def takes(self) -> bool:
        """See `RedisConsumer.takes`."""
        return self._known

    def acquire(self) -> bool:
        """See `RedisConsumer.acquire`."""
        if not self._known:
            forgotten = int(FORGOTTEN_AFTER_SECONDS * 1000)
            self._session.run(FORGET, self._identity.mark, forgotten, action="take from")
            self._known = True
        return True

    def renew(self) -> None:
        """See `RedisConsumer.renew`."""
        if held := sorted(self._held.copy()):
            self._session.run(RENEW, self._identity.mark, self.token, *held, action="renew")

    def leave(self) -> None:
        """See `RedisConsumer.leave`."""
        if self._known:
            self._session.run(
                LEAVE,
                self._identity.mark,
                self.token,
                NOBODY,
                self._lease,
                MOST_HELD,
                action="leave",
            )

    def _read(self, max_records: int, milliseconds: int) -> Sequence[Entry]:
        try:
            entries = self._again(max_records) if self._lost_answer else ()
            if not entries and time.monotonic() - self._claimed_at >= CLAIM_SECONDS:
                entries = self._claim(max_records)
            if not entries:
                group = ("XREADGROUP", "GROUP", GROUP, self.token)
                entries = self._read_stream(group, max_records, milliseconds, ">")
        except QueueUnavailableError as error:
            self._lost_answer = self._lost_answer or error.appended is None
            raise
        return entries

    def _again(self, max_records: int) -> Sequence[Entry]:
        """Return what is this one's and was never handed out."""
        behind = "0-0"
        group = ("XREADGROUP", "GROUP", GROUP, self.token)
        while page := self._read_stream(group, max_records, 0, behind):
            behind = page[-1][0].decode()
            if fresh := self._not_held(page):
                return fresh
        self._lost_answer = False
        return ()

    def _claim(self, max_records: int) -> Sequence[Entry]:
        """Take over what others have kept for longer than the lease."""
        self._claim_from, entries, _ = (
            part.decode() if isinstance(part, bytes) else part
            for part in self._session.ask(
                "XAUTOCLAIM",
                self._url.stream,
                GROUP,
                self.token,
                self._lease,
                self._claim_from,
                "COUNT",
                max_records,
            )
        )
        if self._claim_from == "0-0":  # looked through to the end
            self._claimed_at = time.monotonic()
        fresh = self._not_held(entries)
        if fresh:
            logger.info("%s: %d records come again", self._url.name, len(fresh))
        return fresh

    def _not_held(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return [entry for entry in entries if entry[0] not in self._held and entry[1] is not None]

    def _remove(self, batch: RedisBatch) -> None:
        self._session.run(COMMIT_EACH, self._identity.mark, *batch.ids, action="commit to")

"""How a queue in Redis stands, and whether what is in it can be read. Both only read."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from DurableText.program.wording import counted
from DurableText.progress import Advance, uncounted
from Queue.errors import QueueConfigurationError, QueueError, QueueUnavailableError
from Queue.queue_interface import QueueStatus, QueueVerification
from Queue.redis.entries import Entry, read_entries
from Queue.redis.identity import in_text, parse_id
from Queue.redis.scripts import GROUP
from Queue.redis.session import RedisSession
from Queue.redis.url import RedisUrl

# Entries read at a time: each may have a MiB.
READ_ENTRIES = 256

# So much of the oldest record is shown.
SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class RedisStatus(QueueStatus):
    """How a queue in Redis stands.

    Attributes:
        oldest_entry: the id of the oldest entry, "" if there is none.
        last_entry: the id that was given last.
        bytes: memory of the stream; None if the server does not tell.
        in_flight: records that consumers of the group have taken; 0 with one consumer.
        consumer: who holds the lock, or who takes from the group; None if nobody.
    """

    oldest_entry: str
    last_entry: str
    bytes: int | None
    in_flight: int
    consumer: str | None

    def as_dict(self) -> dict[str, Any]:
        """See `QueueStatus.as_dict`."""
        oldest = None if self.oldest is None else orjson.loads(self.oldest.body)
        return {**dataclasses.asdict(self), "oldest": oldest}

    def lines(self, name: str) -> list[str]:
        """See `QueueStatus.lines`."""
        memory = "not told" if self.bytes is None else f"{self.bytes:,} bytes"
        lines = [
            f"queue        {name}",
            f"waiting      {counted(self.depth, 'record')}",
            f"numbers      last {self.last_entry}",
            f"memory       {memory}",
            f"in flight    {counted(self.in_flight, 'record')}",
            f"consumer     {self.consumer or 'nobody'}",
        ]
        if self.oldest is not None:
            shown = self.oldest.body.decode(errors="replace")[:SHOWN_CHARACTERS]
            lines.insert(2, f"oldest       {self.oldest_entry}: {shown}")
        return lines


def status(session: RedisSession, url: RedisUrl, mark_key: str, lock_key: str) -> RedisStatus:
    """Return how the queue stands.

    Raises:
        QueueUnavailableError: there is none, or it cannot be read.
        QueueConfigurationError: the key is somebody else's.
    """
    about = _about(session, url, mark_key)
    oldest, entry = None, ""
    for page in _pages(session, url, count=1):
        records, _ = read_entries(url.stream, page)
        if records:
            oldest, entry = records[0], page[0][0].decode()
            break
    holder = session.ask("GET", lock_key)
    consumers = [_pairs(each) for each in session.ask("XINFO", "CONSUMERS", url.stream, GROUP)]
    at_work = [each[b"name"].decode(errors="replace") for each in consumers if each[b"pending"]]
    return RedisStatus(
        depth=int(about[b"length"]),
        oldest=oldest,
        oldest_entry=entry,
        last_entry=about[b"last-generated-id"].decode(),
        bytes=_memory(session, url),
        in_flight=sum(each[b"pending"] for each in consumers),
        consumer=holder.decode(errors="replace") if holder else ", ".join(at_work) or None,
    )


def verify(
    session: RedisSession, url: RedisUrl, mark_key: str, advance: Advance = uncounted
) -> QueueVerification:
    """Read the whole stream: every entry has to be a record; `advance` is told how many more.

    Raises:
        QueueUnavailableError: there is none, or it cannot be read.
        QueueConfigurationError: the key is somebody else's.
    """
    _about(session, url, mark_key)
    found = QueueVerification()
    for page in _pages(session, url, READ_ENTRIES):
        records, corrupt = read_entries(url.stream, page)
        found.records += len(records)
        advance(len(records))
        for each in corrupt:
            found.report(f"{url.stream} entry {each.found_at['entry']}: {each.reason}")
    return found


def _about(session: RedisSession, url: RedisUrl, mark_key: str) -> dict[bytes, Any]:
    if session.ask("GET", mark_key) is None:
        with contextlib.suppress(QueueUnavailableError):  # there is no such key
            session.ask("XINFO", "STREAM", url.stream)
            raise QueueConfigurationError(
                f"cannot read the queue {url.name}: the key is somebody else's: name another one "
                "with ?stream="
            )
        raise QueueUnavailableError(
            f"there is no queue at {url.name}; has a model server or publisher opened it yet?"
        )
    return _pairs(session.ask("XINFO", "STREAM", url.stream))


def _pages(session: RedisSession, url: RedisUrl, count: int) -> Iterator[list[Entry]]:
    behind = (0, 0)
    while page := session.ask("XRANGE", url.stream, in_text(behind), "+", "COUNT", count):
        yield page
        last, number = parse_id(page[-1][0])
        behind = (last, number + 1)


def _memory(session: RedisSession, url: RedisUrl) -> int | None:
    try:
        size = session.ask("MEMORY", "USAGE", url.stream)
    except QueueError:  # a right of its own, and only a number for people
        return None
    return None if size is None else int(size)


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))

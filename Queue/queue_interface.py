"""`ResultQueue`: a durable queue of results. The contract of every engine stands here.

`open_queue` in `queue_factory` makes one of a path or a URL.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from DurableText.findings import Findings
from DurableText.program.closing import ClosedAtExit
from DurableText.progress import Advance, uncounted
from Queue.errors import QueueConfigurationError, QueueRecordError


class Record(NamedTuple):
    """A result on its way from the model server to the topic. A tuple: there are very many.

    Attributes:
        id: the image's id, as `body` has it; "" if that has none.
        body: a JSON object in UTF-8 without whitespace at its beginning or line breaks: the bytes
            that topic and DB carry. The names `seq` and `crc` belong to the queue.
    """

    id: str
    body: bytes


def encode_record(fields: Mapping[str, Any]) -> Record:
    """Return a record of the fields of a result, `id` among them.

    Raises:
        QueueRecordError: they cannot be written as JSON, or use a name that belongs to the queue.
    """
    if not isinstance(fields, (dict, Mapping)):  # dict first: the other asks the ABC
        raise QueueRecordError(f"a record is a JSON object, not {type(fields).__name__}")
    if "seq" in fields or "crc" in fields:
        raise QueueRecordError("the names 'seq' and 'crc' are reserved")
    try:
        # Copied into bytes of its own size: orjson's keep the 1 KiB that it began with, and a batch
        # of them costs 0.2 to 0.8 µs more for each (measured, 256 records of 300 bytes).
        body = b"%b" % orjson.dumps(fields)
    except TypeError as error:  # orjson.JSONEncodeError is one
        raise QueueRecordError(f"the record cannot be written as JSON: {error}") from error
    result_id = fields.get("id")
    return Record(result_id if isinstance(result_id, str) else "", body)


class CorruptRecord(Protocol):
    """What stands in the queue and could not be read as a record, or a gap."""

    @property
    def raw(self) -> bytes:
        """The bytes as they stand there; empty for a gap."""

    @property
    def reason(self) -> str:
        """What is wrong with it."""

    @property
    def found_at(self) -> Mapping[str, str]:
        """Where it was found, by name: `file` and `offset` of a text file."""


@dataclass(frozen=True)
class QueueBatch:
    """What one `take` handed out. False if it is empty.

    Attributes:
        records: as they were put.
        corrupt: what could not be read among them. `commit` keeps it aside, where the engine has a
            place for it. Whoever wants to pass it on does so before committing.
    """

    records: list[Record] = field(default_factory=list)
    corrupt: Sequence[CorruptRecord] = ()

    def __bool__(self) -> bool:
        return bool(self.records or self.corrupt)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class QueueStatus:
    """How a queue stands.

    Attributes:
        depth: records that are not committed.
        oldest: the oldest of them, None if there is none.
    """

    depth: int
    oldest: Record | None

    def lines(self, name: str) -> list[str]:
        """Return it for a terminal, with the name of the queue."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        raise NotImplementedError


@dataclass
class QueueVerification(Findings):
    """What a reading of the whole queue has found.

    Attributes:
        records: intact records, committed ones included that are still there.
    """

    records: int = 0


class ResultQueue(ClosedAtExit):
    """A queue of results. Any thread may use it.

    Whatever engine stands behind it:

    * What a `put` returned for is durable, and so is a `commit`.
    * All of a put stand together, in order. A record that is refused stores nothing of its put.
    * What was taken and not committed comes again: to another consumer, or after a restart.
    * It never drops anything: a full queue lets `put` wait.
    * After any error the same put again is right, but for the records that count as appended.

    One that was opened to read (`read_only`) changes nothing and waits for nobody.

    Attributes:
        name: where it is, for logs and errors; without secrets.
        shared: several consumers take at once, and no order is promised over all of them. Else one
            is active and takes strictly in order, and others stand by until it ends.
        path: the file that it is; None where a server keeps it.
    """

    name: str
    shared: bool
    path: Path | None = None

    @property
    @abstractmethod
    def active(self) -> bool:
        """This one takes; else it stands by, or has not tried to take yet."""

    @abstractmethod
    def put(self, records: Sequence[Record], timeout: float | None = None) -> None:
        """Append records; they are durable when it returns.

        Args:
            records: in their order; none is fine.
            timeout: seconds to wait while the queue is full or cannot be written; None waits
                without limit.

        Raises:
            QueueRecordError: one of them cannot be stored; nothing is written.
            QueueFullError: the queue was full all the time; nothing is written.
            QueueUnavailableError: it cannot be written; `appended` says how many records count.
            QueueReplacedError: it is no longer what was opened; nothing of this counts.
            QueueClosedError: the queue is closed, was opened to read, or is to be opened anew.
        """

    @abstractmethod
    def take(self, max_records: int = 256, timeout: float | None = None) -> QueueBatch:
        """Return the oldest records not taken yet, at once if there are any.

        It may be called again before the last batch is committed, and goes on behind it.

        Args:
            max_records: at most so many.
            timeout: seconds to wait for the first; 0 only looks, None waits without limit. While
                another consumer is active this waits for it to end.

        Returns:
            A batch; empty (false) after `timeout`.

        Raises:
            QueueUnavailableError: it cannot be read for now.
            QueueReplacedError: it is no longer what was opened.
            QueueClosedError: the queue is closed, or is being closed while this waits.
        """

    @abstractmethod
    def commit(self, batch: QueueBatch) -> None:
        """Mark a batch as done; it is never handed out again. Durable when it returns.

        An empty batch, and one that is committed already, is fine. One of a consumer that was
        superseded while it gave no sign of life is late, and may change nothing: it comes again.

        Raises:
            QueueOrderError: an earlier batch is not committed yet.
            QueueUnavailableError: it counts as not committed; committing it again is fine.
            QueueReplacedError: it is no longer what the batch was taken from; nothing is committed.
            QueueClosedError: the queue is closed.
        """

    @abstractmethod
    def flush(self) -> None:
        """Return once all that was put is durable, whatever the queue was opened with.

        Raises:
            QueueUnavailableError: what was put since the last `flush` may be lost in a power loss.
            QueueClosedError: the queue is closed.
        """

    @abstractmethod
    def status(self) -> QueueStatus:
        """Return how it stands; waits for no lock.

        Raises:
            QueueUnavailableError: there is none, or it cannot be read.
        """

    @abstractmethod
    def verify(self, advance: Advance = uncounted) -> QueueVerification:
        """Read everything and tell what is wrong.

        Args:
            advance: is told how many more records are read.

        Raises:
            QueueUnavailableError: there is none, or it cannot be read.
        """

    @abstractmethod
    def check(self, timeout: float) -> None:
        """Make sure that records can be stored: the engine answers, durability is as promised.

        Raises:
            QueueUnavailableError: it did not answer within `timeout` seconds, or is read only.
            QueueConfigurationError: it refuses for good, or does not keep what is promised.
            QueueClosedError: the queue is closed.
        """

    def copy_to(self, folder: Path) -> None:  # noqa: ARG002
        """Copy the queue into an empty folder, durably, while it is in use: for a backup.

        Raises:
            QueueConfigurationError: a server keeps it, and has means of its own.
            OSError: there is none, or the copy cannot be written.
        """
        raise QueueConfigurationError(f"{self.name} is its server's to copy: by its snapshots, say")

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds; twice is fine. In a child made by fork it does nothing."""

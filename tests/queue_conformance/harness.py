"""One engine behind the queue, and what can be done to it. Its faults are as real as can be."""

from __future__ import annotations

import contextlib
import errno
import signal
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from Queue import FileQueue, ResultQueue, open_queue
from tests.engines.faulty_disk import FaultyDisk
from tests.engines.redis_server import RedisServer, find_or_skip
from tests.engines.under_test import EngineUnderTest, WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
# How long an engine that hangs is waited for in these tests, in place of ten seconds.
PATIENCE_SECONDS = 1.5
# After so long without a sign of life a consumer's records are another's, not after half a minute.
LEASE_SECONDS = 2.0
# Records that a small queue holds, about.
SMALL = 40


class QueueUnderTest(EngineUnderTest):
    """One engine that runs, and everything that was opened on it by the test at hand.

    Attributes:
        superseded: a consumer that hangs loses what it took to another one, after the lease.
    """

    superseded: ClassVar[bool]

    def open(self) -> ResultQueue:
        """Open the test's queue; closed at the end of the test."""
        return self._opened.enter_context(self._connect())

    def open_impatient(self) -> ResultQueue:
        """Open it so that an engine that hangs is waited for only `PATIENCE_SECONDS`."""
        return self.open()

    @abstractmethod
    def open_small(self) -> ResultQueue:
        """Open the test's queue with room for about `SMALL` records."""

    def reader(self) -> ResultQueue:
        """Open the test's queue to look at it."""
        return self._opened.enter_context(open_queue(self.place, read_only=True))

    def worker(self, task: str, *arguments: object) -> Worker:
        """Start a process that puts or takes: see `worker`."""
        worker = Worker(self.place, task, *arguments)
        self._opened.callback(worker.kill)
        return worker

    def kill_engine(self, worker: Worker) -> list[str]:
        """Kill what does the writing, a server or the process that writes; then the process.

        Returns:
            What the process had still said.
        """
        return worker.kill()

    def gone(self) -> contextlib.AbstractContextManager[None]:
        """Let there be nothing at its place that could be opened."""
        return self.away()

    @abstractmethod
    def damage(self) -> bytes:
        """Add what is no record behind what is there; return its bytes."""

    @abstractmethod
    def _connect(self) -> ResultQueue:
        """Open the queue."""


class TextUnderTest(QueueUnderTest):
    """The text file, on a disk that can fail. A disk that hangs: a network share that gives up."""

    name = "text"
    superseded = False

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="text-queue-")
        self._disk = FaultyDisk()

    def stop(self) -> None:
        self._folder.cleanup()

    def _new_place(self, name: str) -> str:
        self.path = Path(self._folder.name) / name / "log.txt"
        return str(self.path)

    def _connect(self) -> ResultQueue:
        return FileQueue(self.path, storage=self._disk)

    def open_small(self) -> ResultQueue:
        bytes_a_record = 55
        return self._opened.enter_context(FileQueue(self.path, max_bytes=SMALL * bytes_a_record))

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self._disk.failing(errno.EIO)

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        folder = self.path.parent
        elsewhere = folder.with_name("elsewhere")
        folder.rename(elsewhere)
        folder.write_text("")  # so that none is made
        try:
            yield
        finally:
            folder.unlink()
            elsewhere.rename(folder)

    def hanging(self) -> contextlib.AbstractContextManager[None]:
        return self._disk.failing(errno.ETIMEDOUT)

    def full(self) -> contextlib.AbstractContextManager[None]:
        return self._disk.failing(errno.ENOSPC, "append")  # the cursor has its room

    def read_only(self) -> contextlib.AbstractContextManager[None]:
        return self._disk.failing(errno.EROFS, "append", "write")

    def damage(self) -> bytes:
        with self.path.open("ab") as file:
            file.write(b"{damaged}\n")
        return b"{damaged}"

    def lose_everything(self) -> None:
        for path in self.path.parent.iterdir():
            path.unlink()

    def put_something_foreign(self) -> None:
        self.path.parent.mkdir()
        self.path.write_text("a text of somebody else's\n")

    def foreign_is_untouched(self) -> bool:
        return self.path.read_text() == "a text of somebody else's\n"


class RedisUnderTest(QueueUnderTest):
    """A real Redis, with one consumer at a time."""

    name = "redis-one"
    superseded = True
    consumers = "one"

    def start(self) -> None:
        find_or_skip()
        self.server = RedisServer()
        self.server.start()

    def stop(self) -> None:
        self.server.close()

    def _new_place(self, name: str) -> str:
        self.stream = name
        return self._url()

    def _url(self, **options: object) -> str:
        return self.server.url(
            self.stream, consumers=self.consumers, lease=LEASE_SECONDS, **options
        )

    def _connect(self) -> ResultQueue:
        return open_queue(self.place)

    def open_impatient(self) -> ResultQueue:
        from Queue.redis.queue import RedisQueue

        queue = RedisQueue(self.place, answer_seconds=PATIENCE_SECONDS)
        return self._opened.enter_context(queue)

    def open_small(self) -> ResultQueue:
        return self._opened.enter_context(open_queue(self._url(max_records=SMALL)))

    def kill_engine(self, worker: Worker) -> list[str]:
        self.server.kill()
        self.server.start()
        return [*worker.lines(1), *worker.kill()]

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self.server.away()

    def hanging(self) -> contextlib.AbstractContextManager[None]:
        return self.server.hanging()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.server.set(maxmemory="1mb")  # the server itself takes more
        try:
            yield
        finally:
            self.server.set(maxmemory="0")

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        try:
            yield
        finally:
            self.server.ask("REPLICAOF", "NO", "ONE")

    def damage(self) -> bytes:
        self.server.ask("XADD", self.stream, "*", "body", "{damaged}")
        return b"{damaged}"

    def lose_everything(self) -> None:
        self.server.forget()
        self.server.start()

    def put_something_foreign(self) -> None:
        self.server.ask("XADD", self.stream, "1-1", "temperature", "21")

    def foreign_is_untouched(self) -> bool:
        keys = self.server.ask("KEYS", f"*{self.stream}*")
        entries = self.server.ask("XRANGE", self.stream, "-", "+")
        found: bool = (keys, entries) == (
            [self.stream.encode()],
            [(b"1-1", {b"temperature": b"21"})],
        )
        return found


class SharedRedisUnderTest(RedisUnderTest):
    """A real Redis, with several consumers at a time."""

    name = "redis-many"
    consumers = "many"


class Worker(WorkerProcess):
    """A process that puts or takes: see `worker`."""

    def __init__(self, place: str, *arguments: object) -> None:
        super().__init__("tests.queue_conformance.worker", place, *arguments)

    def ids(self) -> list[str]:
        """Wait for a line of its output: the ids that it took."""
        return self.lines(1)[0].split()

    def tell(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def suspend(self) -> None:
        """Let it hang."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it hung."""
        self._process.send_signal(signal.SIGCONT)


ENGINES: dict[str, type[QueueUnderTest]] = {
    each.name: each for each in (TextUnderTest, RedisUnderTest, SharedRedisUnderTest)
}

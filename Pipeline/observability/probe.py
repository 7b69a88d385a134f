"""What takes time to find out: does the broker answer, how long are the backlog and the queue.

A thread asks every few seconds, so that a scrape never waits for a broker or a disk. The values
are therefore a few seconds old. The rows of a DB are counted by another thread: of many millions
that takes longer than a broker may hang unnoticed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from DB import ResultDatabase, open_database
from DurableText.moments import age_of
from DurableText.room import room_of
from MessageBroker import BrokerError
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from Pipeline.observability import metric_table as table
from Pipeline.observability.metrics import Sources
from Pipeline.tally import Tally
from Queue import QueueError, ResultQueue, open_queue

logger = logging.getLogger(__name__)

# Seconds; requests of this kind have quotas in the cloud, and there may be hundreds of scripts.
INTERVAL_SECONDS = 5.0
PING_SECONDS = 5.0
# What has not answered by then hangs, without refusing.
STALE_SECONDS = 15.0
# Over which the fall of the backlog is measured: longer than a batch, shorter than a burst.
DRAIN_WINDOW_SECONDS = 60.0
# What this script does in so many seconds is in work and does not wait: at a steady load it is
# always there, now more and now less, and says nothing of whether the load is too high.
IN_WORK_SECONDS = 2.0
# Between two counts of the DB's rows is so many times what one takes: at most one per cent of it.
COUNTING_PAUSE = 100


class GaugeProbe:
    """Asks until it is closed."""

    def __init__(self, sources: Sources, tally: Tally) -> None:
        """Begin to ask.

        Args:
            sources: whether the broker answers, the backlog, depth and age of the queue, rows.
            tally: whether anything is done.
        """
        self._sources = sources
        self._stall = Stall(tally)
        self._rows = (
            RowCount(open_database(sources.db, read_only=True)) if sources.db is not None else None
        )
        self._queue = (
            open_queue(sources.queue, read_only=True) if sources.queue is not None else None
        )
        self._drain = Drain()
        self._tally = tally
        self._letters: dict[str, int] = {}
        self._values: dict[table.Metric, float] = {}
        self._asking: tuple[str, float] | None = None  # who is asked, and since when
        self._trouble: str | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def values(self) -> dict[table.Metric, float]:
        """Return the gauges, as they were a few seconds ago; what is not known is left out."""
        rows = self._rows.rows if self._rows is not None else None
        return dict(self._values) if rows is None else {**self._values, table.DB_ROWS: rows}

    def letters(self) -> dict[str, int]:
        """Return how many letters lie in the dead-letter topic; nothing where nobody can tell."""
        return dict(self._letters)

    def why_not_ready(self) -> str | None:
        """Tell what is wrong with the broker or the queue; None if both answer."""
        return self.broker_trouble() or self._hangs("queue")

    def broker_trouble(self) -> str | None:
        """Tell what is wrong with the broker; None if it answers."""
        return self._hangs("broker") or self._trouble

    def _hangs(self, who: str) -> str | None:
        asked, since = self._asking or ("", 0.0)
        is_late = asked == who and time.monotonic() - since > STALE_SECONDS
        return f"the {who} does not answer" if is_late else None

    def close(self) -> None:
        """Ask no more; to be called before the broker is closed."""
        self._closed.set()
        self._thread.join(PING_SECONDS + 1.0)
        if self._rows is not None:
            self._rows.close()

    def _run(self) -> None:
        while True:
            try:
                with self._asked("broker"):
                    self._ask_broker()
                self._ask_files()
                self._look_for_stall()
                with self._asked("broker"):
                    self._count_letters()
            except Exception:
                # Numbers for people: their lack must not stop anything, nor go unseen.
                logger.debug("the probe failed", exc_info=True)
            if self._closed.wait(INTERVAL_SECONDS):
                break
        if self._queue is not None:
            self._queue.close()

    @contextlib.contextmanager
    def _asked(self, who: str) -> Iterator[None]:
        self._asking = who, time.monotonic()
        try:
            yield
        finally:
            self._asking = None

    def _ask_broker(self) -> None:
        broker, subscription = self._sources.broker, self._sources.subscription
        try:
            broker.ping(PING_SECONDS)
            if subscription is not None:
                backlog = broker.backlog(subscription.topic, subscription.subscription_id)
                self._set(table.BACKLOG, backlog)
        except BrokerError as error:
            self._trouble = str(error)
            self._set(table.BACKLOG, None)
        else:
            self._trouble = None

    def _ask_files(self) -> None:
        if self._queue is not None:
            with self._asked("queue"):
                self._ask_queue(self._queue)
            self._look_for_room(self._queue.path, table.QUEUE_BYTES, table.QUEUE_FREE)
        if self._rows is not None:
            self._look_for_room(self._rows.path, table.DB_BYTES, table.DB_FREE)

    def _ask_queue(self, queue: ResultQueue) -> None:
        try:
            state = queue.status()
        except QueueError:
            self._set(table.QUEUE_DEPTH, None)
            self._set(table.QUEUE_AGE, None)
            return
        oldest = orjson.loads(state.oldest.body) if state.oldest else None
        self._set(table.QUEUE_DEPTH, state.depth)
        self._set(table.QUEUE_AGE, 0.0 if oldest is None else age_of(oldest.get("predicted_at")))

    def _look_for_stall(self) -> None:
        metric = table.BACKLOG if self._sources.subscription is not None else table.QUEUE_DEPTH
        waiting = self._values.get(metric)
        if waiting is not None:
            self._set(table.STALLED, self._stall.seconds(waiting))
        self._set(table.DRAIN, self._drain.seconds(waiting, self._tally.through))

    def _look_for_room(self, path: Path | None, taken: table.Metric, free: table.Metric) -> None:
        room = room_of(path) if path is not None else None
        self._set(taken, None if room is None else room.taken)
        self._set(free, None if room is None else room.free)

    def _count_letters(self) -> None:
        """Count what lies in the dead-letter topic; who has no right to see it tells nothing."""
        subscription = self._sources.subscription
        if subscription is None:
            return
        topic = dead_letter_topic(subscription.topic)
        self._letters = {}
        letters = self._sources.broker.backlog(topic, default_subscription(topic))
        if letters is not None:
            self._letters = {topic: letters}

    def _set(self, metric: table.Metric, value: float | None) -> None:
        values = dict(self._values)
        values.pop(metric, None)
        if value is not None:
            values[metric] = value
        self._values = values  # replaced, never changed: others read it


class RowCount:
    """Counts a DB's rows again and again; where that takes long, less often: it costs others.

    Attributes:
        path: the file of the DB; None of one at a server.
        rows: at the last count; None if nobody can tell.
    """

    def __init__(self, db: ResultDatabase) -> None:
        """Begin to count in a thread, which closes `db` at its end."""
        self.path = db.path
        self.rows: int | None = None
        self._db = db
        self._closed = threading.Event()
        # A daemon: a count under way keeps nobody from ending.
        threading.Thread(target=self._run, name="rows", daemon=True).start()

    def close(self) -> None:
        """Count no more."""
        self._closed.set()

    def _run(self) -> None:
        with self._db:
            pause = 0.0
            while not self._closed.wait(pause):
                began = time.monotonic()
                try:
                    self.rows = self._db.count()
                except Exception:  # as in the probe; of a DB that is away somebody else tells
                    self.rows = None
                    logger.debug("the rows cannot be counted", exc_info=True)
                pause = max(INTERVAL_SECONDS, COUNTING_PAUSE * (time.monotonic() - began))


class Drain:
    """How long it takes until nothing waits any more, if it goes on as in the last minute.

    That is backlog ÷ (consumed - arriving), and what is consumed less what arrives is how much the
    backlog falls, by all consumers together. A backlog that this script alone works off within
    `IN_WORK_SECONDS` is none that grows: it is what is in work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a look; `clock` tells the time."""
        self._clock = clock
        self._looks: deque[tuple[float, float, int]] = deque()

    def seconds(self, waiting: float | None, through: int = 0) -> float | None:
        """Look.

        Args:
            waiting: how many wait; None if nobody can tell.
            through: how many this script has dealt with, ever.

        Returns:
            Infinity while the backlog does not fall; None for what cannot be told, or not yet.
        """
        if waiting is None:
            self._looks.clear()
            return None
        now = self._clock()
        self._looks.append((now, waiting, through))
        while len(self._looks) > 2 and now - self._looks[0][0] > DRAIN_WINDOW_SECONDS:
            self._looks.popleft()
        began, before, through_before = self._looks[0]
        if waiting == 0:
            return 0.0
        if now == began:
            return None
        falls = (before - waiting) / (now - began)
        done = (through - through_before) / (now - began)
        if waiting <= done * IN_WORK_SECONDS:
            return waiting / max(done, falls)
        return waiting / falls if falls > 0 else math.inf


class Stall:
    """For how long messages have waited while nothing was done, whatever the cause."""

    def __init__(self, tally: Tally, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none; `clock` tells the time."""
        self._tally = tally
        self._clock = clock
        self._since = clock()
        self._through = 0

    def seconds(self, waiting: float) -> float:
        """Look; `waiting` is how many wait."""
        through = self._tally.through
        if not waiting or through != self._through:
            self._since, self._through = self._clock(), through
        return self._clock() - self._since

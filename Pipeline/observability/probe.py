"""What takes time to find out: does the broker answer, how long are the backlog and the queue.

A thread asks every few seconds, so that a scrape never waits for a broker or a disk. The values
are therefore a few seconds old.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import orjson

from DB import DatabaseError, ResultDatabase, open_database
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
# An answer this old counts as none: the broker hangs without refusing.
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
        self._db = open_database(sources.db, read_only=True) if sources.db is not None else None
        self._queue = (
            open_queue(sources.queue, read_only=True) if sources.queue is not None else None
        )
        self._rows: int | None = None
        self._count_again_at = 0.0
        self._drain = Drain()
        self._tally = tally
        self._letters: dict[str, int] = {}
        self._values: dict[table.Metric, float] = {}
        self._answered_at = time.monotonic()
        self._trouble: str | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def values(self) -> dict[table.Metric, float]:
        """Return the gauges, as they were a few seconds ago; what is not known is left out."""
        return dict(self._values)

    def letters(self) -> dict[str, int]:
        """Return how many letters lie in the dead-letter topic; nothing where nobody can tell."""
        return dict(self._letters)

    def why_not_ready(self) -> str | None:
        """Tell what is wrong with the broker; None if it answers."""
        if self._trouble is None and time.monotonic() - self._answered_at > STALE_SECONDS:
            return "the broker does not answer"
        return self._trouble

    def close(self) -> None:
        """Ask no more; to be called before the broker is closed."""
        self._closed.set()
        self._thread.join(PING_SECONDS + 1.0)

    def _run(self) -> None:
        while True:
            try:
                self._ask_broker()
                self._ask_files()
                self._look_for_stall()
                self._count_letters()
            except Exception:
                # Numbers for people: their lack must not stop anything, nor go unseen.
                logger.debug("the probe failed", exc_info=True)
            if self._closed.wait(INTERVAL_SECONDS):
                break
        for opened in (self._queue, self._db):
            if opened is not None:
                opened.close()

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
            self._trouble, self._answered_at = None, time.monotonic()

    def _ask_files(self) -> None:
        if self._queue is not None:
            self._ask_queue(self._queue)
            self._look_for_room(self._queue.path, table.QUEUE_BYTES, table.QUEUE_FREE)
        if self._db is not None:
            self._set(table.DB_ROWS, self._rows_of(self._db))
            self._look_for_room(self._db.path, table.DB_BYTES, table.DB_FREE)

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

    def _rows_of(self, db: ResultDatabase) -> int | None:
        """Count; where that takes long it is done less often: it costs others as well."""
        if time.monotonic() >= self._count_again_at:
            began = time.monotonic()
            try:
                self._rows = db.count()
            except DatabaseError:
                self._rows = None
            ended = time.monotonic()
            self._count_again_at = ended + COUNTING_PAUSE * (ended - began)
        return self._rows

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

"""The way of single images through the four stages, by their ids.

What is known of an image comes from four places: the broker has confirmed it, its result was
published, it became a dead letter, its row is in the DB. Each may be away for a while, and any of
them may come first; a journey says what is known, and is complete when the image is stored or is a
dead letter.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from DB import DatabaseError, ResultDatabase
from DurableText.moments import timestamp
from DurableText.program.wording import brief
from MessageBroker import BrokerError, BrokerInterface, Message
from MessageBroker.cloudevents import attribute
from MessageBroker.core import dead_letter
from MessageBroker.original_message import image_id
from Pipeline.events import PAGE_SOURCE, EventError, image_event, parse_inference
from Pipeline.page.board import Board
from Pipeline.page.texts import shown_row

logger = logging.getLogger(__name__)

# Images that are followed, or were; the oldest is forgotten.
MAX_JOURNEYS = 200
# Not confirmed by the broker yet: more are refused until it has confirmed some.
MAX_UNCONFIRMED = 50
MAX_UNCONFIRMED_BYTES = 64 << 20
# Rows of the DB that are looked through for images that are awaited.
ROWS_LOOKED_AT = 1000
# The DB is asked for one image itself after so long, and again after twice as long.
ASK_SECONDS = 5.0
LONGEST_ASK_SECONDS = 300.0


class TooManyError(Exception):
    """Raised when an image is not taken because too many wait for the broker."""


@dataclass
class Journey:
    """What is known of one image.

    Attributes:
        id: the image's.
        name: what it is.
        state: `sent`, `published`, `predicted`, `stored`, `dead letter` or `refused`.
        times: RFC 3339, by the names of DESIGN: `published_at`, `received_at`, `predicted_at`,
            `result_published_at`, `stored_at`; and `dead_lettered_at`.
        size: bytes of the image, if it was published here.
        result: the fields of its inference event, or of its row.
        why: why it was refused, or is a dead letter.
    """

    id: str
    name: str
    state: str = "sent"
    times: dict[str, str] = field(default_factory=dict)
    size: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    why: str | None = None
    ask_at: float = 0.0
    ask_after: float = ASK_SECONDS

    @property
    def done(self) -> bool:
        """Whether nothing more is awaited."""
        return self.state in ("stored", "dead letter", "refused")

    def as_dict(self) -> dict[str, Any]:
        """Say it in JSON-able values, fit to be shown."""
        return {
            "id": self.id,
            "name": brief(self.name),
            "state": self.state,
            "times": self.times,
            "result": shown_row(self.result),
            "why": brief(self.why) if self.why is not None else None,
            "done": self.done,
        }


class Journeys:
    """Publishes images and follows them. Its methods are for any thread."""

    def __init__(
        self, broker: BrokerInterface, topic: str, db: ResultDatabase, board: Board
    ) -> None:
        """Follow none yet.

        Args:
            broker: where images are published.
            topic: to which they are.
            db: in which they end.
            board: where all that is known is said.
        """
        self._broker = broker
        self._topic = topic
        self._db = db
        self._board = board
        self._lock = threading.Lock()
        self._journeys: OrderedDict[str, Journey] = OrderedDict()

    # ------------------------------------------------------------------ setting out

    def publish(
        self, data: bytes, *, name: str, content_type: str, expected_label: str | None
    ) -> str:
        """Publish an image through the real topic, and follow it; return its id.

        Args:
            data: the image.
            name: what it is, for people.
            content_type: the media type of `data`.
            expected_label: the truth, if it is known.

        Raises:
            TooManyError: the broker has not confirmed many that came before.
            BrokerError: the broker will never take it.
        """
        with self._lock:
            waiting = [each.size for each in self._journeys.values() if each.state == "sent"]
        if len(waiting) >= MAX_UNCONFIRMED or sum(waiting) + len(data) > MAX_UNCONFIRMED_BYTES:
            raise TooManyError(f"{len(waiting)} images wait for the broker already")
        published_at = timestamp()
        event_id, event = image_event(
            data,
            prefix=self._broker.cloudevents_prefix,
            subject=name,
            content_type=content_type,
            expected_label=expected_label,
            time=published_at,
            source=PAGE_SOURCE,
        )
        self._follow(Journey(event_id, name, "sent", {"published_at": published_at}, len(data)))
        try:
            confirmed = self._broker.publish(self._topic, data, attributes=event.attributes)
        except BrokerError as error:
            self._refuse(event_id, error)
            raise
        confirmed.add_done_callback(lambda future: self._on_confirmed(event_id, future))
        return event_id

    def follow(self, event_id: str, name: str) -> None:
        """Follow an image that was published, by whomever."""
        self._follow(Journey(event_id, name, "published"))

    def _follow(self, journey: Journey) -> None:
        journey.ask_at = time.monotonic() + ASK_SECONDS
        with self._lock:
            self._journeys.pop(journey.id, None)
            self._journeys[journey.id] = journey
            self._tell(journey)
            while len(self._journeys) > MAX_JOURNEYS:
                forgotten, _ = self._journeys.popitem(last=False)
                self._board.remove("journey", forgotten)

    def _on_confirmed(self, event_id: str, future: Future[str]) -> None:
        error = future.exception()
        if error is not None:
            self._refuse(event_id, error)
            return
        with self._lock:
            journey = self._journeys.get(event_id)
            if journey is not None and journey.state == "sent":
                journey.state = "published"
                self._tell(journey)

    def _refuse(self, event_id: str, error: BaseException) -> None:
        with self._lock:
            journey = self._journeys.get(event_id)
            if journey is not None:
                journey.state, journey.why = "refused", str(error)
                self._tell(journey)

    # ------------------------------------------------------------------ what comes of it

    def take_inferences(self, messages: Sequence[Message]) -> None:
        """Look through results that were published; the DB may have had them before we do."""
        for message in messages:
            with self._lock:
                journey = self._journeys.get(attribute(message.attributes, "id") or "")
            if journey is None or "result_published_at" in journey.times:
                continue
            try:
                result = parse_inference(message)
            except EventError:
                continue  # app_2 makes a dead letter of it
            with self._lock:
                journey.times["result_published_at"] = timestamp(message.publish_time)
                self._take_times(journey, result)
                if not journey.done:
                    journey.state, journey.result, journey.why = "predicted", result, None
                    journey.ask_at = time.monotonic() + ASK_SECONDS
                self._tell(journey)

    def take_letters(self, letters: Sequence[Message]) -> None:
        """Look through dead letters that were just made."""
        for letter in letters:
            attributes = letter.attributes
            # Of an image, or of its result.
            ids = image_id(self._broker.name, letter), attribute(attributes, "id")
            event_id = next(filter(self._is_awaited, ids), None)
            if event_id is None:
                continue
            with self._lock:
                journey = self._journeys.get(event_id)
                if journey is None:
                    continue  # it has just been forgotten
                journey.state = "dead letter"
                reason = attributes.get(dead_letter.REASON, "")
                journey.why = f"{reason}: {attributes.get(dead_letter.ERROR, '')}"
                journey.times["dead_lettered_at"] = attributes.get(dead_letter.TIME, "")
                self._tell(journey)

    def take_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Look through rows of the DB."""
        for row in rows:
            event_id = row.get("id")
            if not isinstance(event_id, str) or not self._is_awaited(event_id):
                continue
            with self._lock:
                journey = self._journeys.get(event_id)
                if journey is None:
                    continue  # it has just been forgotten
                journey.state, journey.why = "stored", None
                journey.result = row
                self._take_times(journey, row)
                self._tell(journey)

    def look_into_db(self) -> None:
        """Look whether images that are awaited are stored."""
        with self._lock:
            awaited = [each for each in self._journeys.values() if not each.done]
        if not awaited:
            return
        try:
            self.take_rows(self._db.newest(ROWS_LOOKED_AT))
            for journey in awaited:
                if not journey.done and time.monotonic() >= journey.ask_at:
                    row = self._db.get(journey.id)
                    journey.ask_after = min(2 * journey.ask_after, LONGEST_ASK_SECONDS)
                    journey.ask_at = time.monotonic() + journey.ask_after
                    self.take_rows([row] if row is not None else [])
        except DatabaseError as error:
            logger.debug("the DB cannot be looked into: %s", error)  # nothing is stored yet, say

    def _is_awaited(self, event_id: str | None) -> bool:
        with self._lock:
            journey = self._journeys.get(event_id or "")
            return journey is not None and not journey.done

    @staticmethod
    def _take_times(journey: Journey, result: dict[str, Any]) -> None:
        for name in ("published_at", "received_at", "predicted_at", "stored_at"):
            if isinstance(result.get(name), str):
                journey.times[name] = brief(result[name])

    def _tell(self, journey: Journey) -> None:
        self._board.post("journey", journey.as_dict(), journey.id)

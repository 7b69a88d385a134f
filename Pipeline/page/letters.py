"""Dead letters as the page shows them: read, looked at, saved, sent home or thrown away.

Reading leaves them all (`MessageBroker.dead_letters`), and what was read is kept here, so that it
can be looked at for as long as one likes. One thing is done at a time, in a thread of its own: two
browsers that replay the same letter at once replay it once, and the second is told so.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from DurableText.command_line import MAX_LINE, brief, counted
from DurableText.moments import seconds_of, timestamp
from MessageBroker import BrokerError, BrokerInterface, DeliverySettings, Message
from MessageBroker.broker_interface import default_subscription
from MessageBroker.core.broker import BrokerCore
from MessageBroker.dead_letters import (
    READING,
    Bounds,
    Outcome,
    Selection,
    purge,
    read_letters,
    replay,
    topic_of_letters,
)
from MessageBroker.errors import MessageNotFoundError, TopicNotFoundError
from MessageBroker.original_message import describe, image_id, original_body
from Pipeline.page.board import Board
from Pipeline.page.journeys import Journeys

logger = logging.getLogger(__name__)

# So many are read and kept; that there are more is said.
SHOWN = Bounds(letters=10_000, bytes=64 << 20)
# Of one answer to a browser.
LETTERS_A_PAGE = 50
# For letters that a killed reader held: a person looks again, a command does not.
READING_SECONDS = 5.0
# Of letters that were replayed so many are followed, and of so many it is known what became of
# them.
MAX_FOLLOWED = 100
MAX_OUTCOMES = 10_000
# Reasons told apart in the filter.
MAX_REASONS = 100
# How much of a body is shown as hex and as text.
MAX_BODY_SHOWN = 1024

OpenBroker = Callable[[DeliverySettings], BrokerInterface]


class NoLetterError(Exception):
    """Raised when a letter is not among those that were read."""


@dataclass(frozen=True)
class Filter:
    """Which of the letters that were read are shown.

    Attributes:
        reason: the reason; None for all.
        since: seconds since 1970 from which on; None for all.
    """

    reason: str | None = None
    since: float | None = None

    def takes(self, description: dict[str, Any]) -> bool:
        """Tell whether a letter is shown."""
        if self.reason is not None and description["reason"] != self.reason:
            return False
        return self.since is None or (seconds_of(description["time"]) or 0.0) >= self.since


@dataclass
class Shelf:
    """What was read.

    Attributes:
        letters: by their ids, the newest first.
        descriptions: of each, in the same order.
        more: whether there are others, which were not read.
        waiting: how many there are in all; None where nobody can tell.
        read_at: when that was, RFC 3339; None if never.
    """

    letters: dict[str, Message] = field(default_factory=dict)
    descriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: bool = False
    waiting: int | None = None
    read_at: str | None = None


class LetterDesk:
    """Reads letters and settles them. Its methods are for any thread, and do not wait."""

    def __init__(
        self,
        broker_name: str,
        open_broker: OpenBroker,
        topics: Sequence[str],
        board: Board,
        journeys: Journeys,
    ) -> None:
        """Begin with nothing read.

        Args:
            broker_name: which broker it is.
            open_broker: opens a handler with delivery settings of its own.
            topics: whose letters.
            board: where it is said that something has changed.
            journeys: follows what was replayed.
        """
        self._broker_name = broker_name
        self._open_broker = open_broker
        self._topics = topics
        self._board = board
        self._journeys = journeys
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon: what waits for a broker that is away must not keep the page from ending.
        threading.Thread(target=self._run, name="letters", daemon=True).start()
        self._lock = threading.Lock()
        self._doing: list[str] = []
        self._error: str | None = None
        self._said: str | None = None
        self._arrived = 0
        self._shelf = Shelf()
        self._outcomes: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._tell()

    def _run(self) -> None:
        while True:
            self._work.get()()

    def take_letters(self, letters: Sequence[Message]) -> None:
        """Note that letters have just come."""
        self._arrived += len(letters)
        self._tell()

    # ------------------------------------------------------------------ asking

    def read(self) -> None:
        """Read all letters, soon."""
        self._do("reading", self._read, once=True)

    def settle(self, action: str, selection: Selection) -> None:
        """Replay or purge letters, soon, and read what is left.

        Args:
            action: `replay` or `purge`.
            selection: which.
        """
        self._do(f"{action} under way", lambda: self._settle(action, selection))
        self.read()

    def listing(self, which: Filter, offset: int) -> dict[str, Any]:
        """Return a page of the letters that were read, and what there is to filter by."""
        shelf = self._shelf
        shown = [each for each in shelf.descriptions.values() if which.takes(each)]
        reasons = Counter(each["reason"] for each in shelf.descriptions.values())
        page = shown[offset : offset + LETTERS_A_PAGE]
        return {
            "letters": [self._row(each) for each in page],
            "shown": len(shown),
            "offset": offset,
            "read": len(shelf.letters),
            "more": shelf.more,
            "waiting": shelf.waiting,
            "read_at": shelf.read_at,
            "reasons": [
                {"reason": reason, "shown": brief(reason), "count": count}
                for reason, count in reasons.most_common(MAX_REASONS)
            ],
        }

    def ids(self, which: Filter) -> list[str]:
        """Return the ids of the letters that a filter shows."""
        descriptions = self._shelf.descriptions
        return [each for each, told in descriptions.items() if which.takes(told)]

    def look_at(self, letter_id: str) -> dict[str, Any]:
        """Return all that is known of a letter.

        Raises:
            NoLetterError: it was not read.
        """
        letter = self.letter(letter_id)
        told = self._row(describe(letter), MAX_LINE)
        body = letter.data[:MAX_BODY_SHOWN]
        attributes = {
            brief(name): brief(value, MAX_LINE) for name, value in letter.attributes.items()
        }
        return {**told, "attributes": attributes, "hex": hex_lines(body), "text": text_of(body)}

    def letter(self, letter_id: str) -> Message:
        """Return a letter that was read.

        Raises:
            NoLetterError: it was not.
        """
        try:
            return self._shelf.letters[letter_id]
        except KeyError:
            raise NoLetterError("this letter is not among those that were read last") from None

    def body_of(self, letter_id: str) -> bytes:
        """Return the original bytes of a letter, from their place if need be.

        Raises:
            NoLetterError: it was not read, or its bytes are not there any more.
            BrokerError: the broker does not give them.
        """
        letter = self.letter(letter_id)
        with self._open_broker(READING) as broker:
            try:
                return original_body(cast("BrokerCore", broker), letter)
            except MessageNotFoundError as error:
                raise NoLetterError(str(error)) from None

    def _row(self, told: dict[str, Any], longest: int = 500) -> dict[str, Any]:
        texts = {
            name: brief(value, longest) if isinstance(value, str) else value
            for name, value in told.items()
            if name != "attributes"
        }
        return {**texts, "id": told["id"], "outcome": self._outcomes.get(told["id"])}

    # ------------------------------------------------------------------ doing

    def _do(self, what: str, work: Callable[[], None], *, once: bool = False) -> None:
        def done() -> None:
            try:
                work()
            except BrokerError as error:
                self._error = str(error)
            except Exception as error:
                logger.exception("%s of dead letters failed", what)
                self._error = f"{type(error).__name__}: {error}"
            finally:
                with self._lock:
                    self._doing.remove(what)
                self._tell()

        with self._lock:
            if once and what in self._doing[1:]:
                return  # it waits for its turn already
            self._doing.append(what)
        self._tell()
        self._work.put(done)

    def _read(self) -> None:
        self._error = None
        arrived, more = self._arrived, False
        letters: list[Message] = []
        waiting: int | None = 0
        with self._open_broker(SHOWN.settings) as opened:
            broker = cast("BrokerCore", opened)
            broker.ping(READING_SECONDS)
            for topic in map(topic_of_letters, self._topics):
                left = Bounds(
                    SHOWN.letters - len(letters),
                    SHOWN.bytes - sum(len(each.data) for each in letters),
                )
                try:
                    there = broker.backlog(topic, default_subscription(topic))
                    waiting = None if there is None or waiting is None else waiting + there
                    if left.letters <= 0 or left.bytes <= 0:
                        more = True
                        continue
                    read = read_letters(broker, topic, READING_SECONDS, left)
                except TopicNotFoundError:
                    continue  # there was never one
                letters += read.letters
                more |= read.full
        self._put_on_shelf(letters, more=more, waiting=waiting)
        self._arrived -= arrived

    def _put_on_shelf(self, letters: list[Message], *, more: bool, waiting: int | None) -> None:
        told = {each.id: {**describe(each), "attributes": {}} for each in letters}
        newest = sorted(told, key=lambda each: seconds_of(told[each]["time"]) or 0.0, reverse=True)
        by_id = {each.id: each for each in letters}
        self._shelf = Shelf(
            {each: by_id[each] for each in newest},
            {each: told[each] for each in newest},
            more or (waiting is not None and waiting > len(letters)),
            waiting,
            timestamp(),
        )

    def _settle(self, action: str, selection: Selection) -> None:
        act = {"replay": replay, "purge": purge}[action]
        done = {"replay": "replayed", "purge": "purged"}[action]
        settled: list[str] = []
        failures: dict[str, str] = {}
        if action == "replay":
            self._follow(selection)  # before they are sent: what comes of them may come at once
        with self._open_broker(READING) as opened:
            broker = cast("BrokerCore", opened)
            broker.ping(READING_SECONDS)
            for topic in self._topics_of(selection):
                try:
                    outcome: Outcome = act(broker, topic, selection)
                except TopicNotFoundError:
                    continue
                settled += outcome.settled
                failures |= outcome.failures
        missed = set(selection.ids) - set(settled) - set(failures)
        by_others = [each for each in missed if "done" not in self._outcomes.get(each, {})]
        self._note(settled, {"done": done})
        for letter_id, why in failures.items():
            self._note([letter_id], {"done": "stays", "why": brief(why)})
        self._note(by_others, {"done": "was not there any more: somebody else has settled it"})
        parts = [f"{counted(len(settled), 'letter')} {done}"]
        if failures:
            parts.append(f"{counted(len(failures), 'letter')} cannot be sent and stay")
        if missed:
            parts.append(f"{counted(len(missed), 'letter')} not there any more")
        self._said = ", ".join(parts)

    def _topics_of(self, selection: Selection) -> list[str]:
        """Tell where the letters are: those that were read say it, others may be anywhere."""
        read = [self._shelf.letters.get(each) for each in selection.ids]
        known = {each.topic for each in read if each is not None}
        everywhere = not selection.ids or None in read
        return [each for each in self._topics if everywhere or topic_of_letters(each) in known]

    def _follow(self, selection: Selection) -> None:
        letters = [each for each in self._shelf.letters.values() if selection.takes(each)]
        for letter in letters[:MAX_FOLLOWED]:
            known = image_id(self._broker_name, letter)
            self._journeys.follow(known, describe(letter)["subject"] or known)
            self._note([letter.id], {"image": known})

    def _note(self, letter_ids: Collection[str], outcome: dict[str, Any]) -> None:
        for letter_id in letter_ids:
            before = self._outcomes.pop(letter_id, None) or {"what": self._name(letter_id)}
            told = {**before, **outcome, "at": timestamp()}
            self._outcomes[letter_id] = told
        while len(self._outcomes) > MAX_OUTCOMES:
            self._outcomes.popitem(last=False)

    def _name(self, letter_id: str) -> str:
        """Say which letter it was, as long as it is known."""
        told = self._shelf.descriptions.get(letter_id, {})
        return brief(told.get("subject") or told.get("event_id") or letter_id)

    def outcomes(self) -> list[dict[str, Any]]:
        """Return what became of the letters that were settled last, the newest first."""
        some = list(self._outcomes.items())[-LETTERS_A_PAGE:]
        return [{"id": letter_id, **told} for letter_id, told in reversed(some)]

    def _tell(self) -> None:
        self._board.post(
            "letters",
            {
                "doing": self._doing[0] if self._doing else None,
                "error": self._error,
                "said": self._said,
                "arrived": self._arrived,
                "read_at": self._shelf.read_at,
                "count": len(self._shelf.letters),
                "more": self._shelf.more,
            },
        )


def hex_lines(data: bytes) -> list[str]:
    """Write bytes as hex, 16 a line, each with its place and what of it is ASCII."""
    lines = []
    for place in range(0, len(data), 16):
        part = data[place : place + 16]
        ascii_only = "".join(chr(each) if 32 <= each < 127 else "." for each in part)
        lines.append(f"{place:06x}  {part.hex(' '):<47}  {ascii_only}")
    return lines


def text_of(data: bytes) -> str | None:
    """Return bytes as text, its lines kept; None if they are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            return None
        text = data[: error.start].decode()  # cut in the middle of a character
    lines = text.replace("\r\n", "\n").split("\n")
    return None if "\0" in text else "\n".join(brief(each, len(each)) for each in lines)

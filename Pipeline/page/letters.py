"""Dead letters at the page: read, and sent home or thrown away.

Reading leaves them all (`MessageBroker.dead_letters`), and what was read stays on a shelf, so that
it can be looked at for as long as one likes. One thing is done at a time, in a thread of its own:
two browsers that replay the same letter at once replay it once, and the second is told so.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from DurableText.program.wording import brief, counted
from MessageBroker import BrokerError, DeliverySettings, Message
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
from Pipeline.page.letter_outcomes import LetterOutcomes
from Pipeline.page.shelf import LETTERS_A_PAGE, Filter, NoLetterError, Shelf

logger = logging.getLogger(__name__)

# So many are read and kept; that there are more is said.
SHOWN = Bounds(letters=10_000, bytes=64 << 20)
# For letters that a killed reader held: a person looks again, a command does not.
READING_SECONDS = 5.0
# Of letters that were replayed so many are followed.
MAX_FOLLOWED = 100

OpenBroker = Callable[[DeliverySettings], BrokerCore]


class LetterDesk:
    """Reads letters and settles them. Its methods are for any thread, and do not wait.

    But for `body_of`, which asks the broker.
    """

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
        self._outcomes = LetterOutcomes()
        self._shelf = Shelf()
        # Held from a change to the word on the board: else an older state could be the last word.
        self._lock = threading.Lock()
        self._doing: list[str] = []
        self._troubles: dict[str, str] = {}  # why the last reading failed, or the last settling
        self._said: str | None = None
        self._arrived = 0
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon: what waits for a broker that is away must not keep the page from ending.
        threading.Thread(target=self._run, name="letters", daemon=True).start()
        with self._lock:
            self._tell()

    def _run(self) -> None:
        while True:
            self._work.get()()

    def take_letters(self, letters: Sequence[Message]) -> None:
        """Note that letters have just come."""
        with self._lock:
            self._arrived += len(letters)
            self._tell()

    # ------------------------------------------------------------------ asking

    def read(self) -> None:
        """Read all letters, soon."""
        self._do("reading", "reading", self._read, once=True)

    def settle(self, action: str, selection: Selection) -> None:
        """Replay or purge letters, soon, and read what is left.

        Args:
            action: `replay` or `purge`.
            selection: which.
        """
        self._do("settling", f"{action} under way", lambda: self._settle(action, selection))
        self.read()

    def listing(self, which: Filter, offset: int) -> dict[str, Any]:
        """Return a page of the letters that were read, and what there is to filter by."""
        return self._shelf.listing(which, offset, self._outcomes.of)

    def ids(self, which: Filter) -> list[str]:
        """Return the ids of the letters that a filter shows."""
        return self._shelf.ids(which)

    def look_at(self, letter_id: str) -> dict[str, Any]:
        """Return all that is known of a letter.

        Raises:
            NoLetterError: it was not read.
        """
        return self._shelf.look_at(letter_id, self._outcomes.of)

    def letter(self, letter_id: str) -> Message:
        """Return a letter that was read.

        Raises:
            NoLetterError: it was not.
        """
        return self._shelf.letter(letter_id)

    def body_of(self, letter_id: str) -> bytes:
        """Return the original bytes of a letter, from their place if need be.

        Raises:
            NoLetterError: it was not read, or its bytes are not there any more.
            BrokerError: the broker does not give them.
        """
        letter = self.letter(letter_id)
        with self._open_broker(READING) as broker:
            try:
                return original_body(broker, letter)
            except MessageNotFoundError as error:
                raise NoLetterError(str(error)) from None

    def outcomes(self) -> list[dict[str, Any]]:
        """Return what became of the letters that were settled last, the newest first."""
        return self._outcomes.latest(LETTERS_A_PAGE)

    # ------------------------------------------------------------------ doing

    def _do(self, about: str, what: str, work: Callable[[], None], *, once: bool = False) -> None:
        """Do it in its turn; what has failed is said until the same is done again.

        Args:
            about: which trouble of before is over when this begins.
            what: in words, for a person.
            work: what is done.
            once: not if it waits for its turn already.
        """

        def done() -> None:
            with self._lock:
                self._troubles.pop(about, None)
            trouble: str | None = None
            try:
                work()
            except BrokerError as error:
                trouble = str(error)
            except Exception as error:
                logger.exception("%s of dead letters failed", what)
                trouble = f"{type(error).__name__}: {error}"
            with self._lock:
                if trouble is not None:
                    self._troubles[about] = trouble
                self._doing.remove(what)
                self._tell()

        with self._lock:
            if once and what in self._doing[1:]:
                return
            self._doing.append(what)
            self._tell()
            self._work.put(done)

    def _read(self) -> None:
        arrived, more = self._arrived, False
        letters: list[Message] = []
        waiting: int | None = 0
        with self._open_broker(SHOWN.settings) as broker:
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
        self._shelf = Shelf.of(letters, more=more, waiting=waiting)
        with self._lock:
            self._arrived -= arrived

    def _settle(self, action: str, selection: Selection) -> None:
        act = {"replay": replay, "purge": purge}[action]
        done = {"replay": "replayed", "purge": "purged"}[action]
        settled: list[str] = []
        failures: dict[str, str] = {}
        self._said = None
        if action == "replay":
            self._follow(selection)  # before they are sent: what comes of them may come at once
        with self._open_broker(READING) as broker:
            broker.ping(READING_SECONDS)
            for topic in self._topics_of(selection):
                try:
                    outcome: Outcome = act(broker, topic, selection)
                except TopicNotFoundError:
                    continue
                self._note(outcome.settled, {"done": done})
                for letter_id, why in outcome.failures.items():
                    self._note([letter_id], {"done": "stays", "why": brief(why)})
                settled += outcome.settled
                failures |= outcome.failures
        missed = set(selection.ids) - set(settled) - set(failures)
        by_others = [each for each in missed if "done" not in (self._outcomes.of(each) or {})]
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

    def _note(self, letter_ids: Sequence[str], outcome: dict[str, Any]) -> None:
        self._outcomes.note(letter_ids, outcome, self._shelf.name_of)

    def _tell(self) -> None:
        """Say the latest; the lock is held."""
        self._board.post(
            "letters",
            {
                "doing": self._doing[0] if self._doing else None,
                "error": "; ".join(dict.fromkeys(self._troubles.values())) or None,
                "said": self._said,
                "arrived": self._arrived,
                "read_at": self._shelf.read_at,
                "count": len(self._shelf.letters),
                "more": self._shelf.more,
            },
        )

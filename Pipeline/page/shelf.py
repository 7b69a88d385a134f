"""Dead letters that were read, as the page shows them: listed, filtered, looked at one by one.

A shelf never changes: whoever reads again puts up another one. So a page of the list and the
filter beside it are of one reading, whatever is done meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from DurableText.moments import seconds_of, timestamp
from DurableText.program.wording import MAX_LINE, brief
from MessageBroker import Message
from MessageBroker.original_message import describe

# Of one answer to a browser.
LETTERS_A_PAGE = 50
# Reasons told apart in the filter.
MAX_REASONS = 100
# How much of a body is shown as hex and as text.
MAX_BODY_SHOWN = 1024
# Characters of a text in a list.
MAX_TEXT = 500

# Tells what became of a letter, by its id; None of one that nobody settled.
OutcomeOf = Callable[[str], dict[str, Any] | None]


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


@dataclass(frozen=True)
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

    @classmethod
    def of(cls, letters: Sequence[Message], *, more: bool, waiting: int | None) -> Shelf:
        """Put up letters that were just read.

        Args:
            letters: in any order.
            more: whether others were left.
            waiting: how many there are in all; None where nobody can tell.
        """
        told = {each.id: {**describe(each), "attributes": {}} for each in letters}
        newest = sorted(told, key=lambda each: seconds_of(told[each]["time"]) or 0.0, reverse=True)
        by_id = {each.id: each for each in letters}
        return cls(
            {each: by_id[each] for each in newest},
            {each: told[each] for each in newest},
            more or (waiting is not None and waiting > len(letters)),
            waiting,
            timestamp(),
        )

    def listing(self, which: Filter, offset: int, outcome_of: OutcomeOf) -> dict[str, Any]:
        """Return a page of the letters, and what there is to filter by.

        Args:
            which: what is shown.
            offset: how many of them stand on the pages before.
            outcome_of: tells what became of a letter.
        """
        shown = [each for each in self.descriptions.values() if which.takes(each)]
        reasons = Counter(each["reason"] for each in self.descriptions.values())
        page = shown[offset : offset + LETTERS_A_PAGE]
        return {
            "letters": [_row(each, outcome_of) for each in page],
            "shown": len(shown),
            "offset": offset,
            "read": len(self.letters),
            "more": self.more,
            "waiting": self.waiting,
            "read_at": self.read_at,
            "reasons": [
                {"reason": reason, "shown": brief(reason), "count": count}
                for reason, count in reasons.most_common(MAX_REASONS)
            ],
        }

    def ids(self, which: Filter) -> list[str]:
        """Return the ids of the letters that a filter shows."""
        return [each for each, told in self.descriptions.items() if which.takes(told)]

    def letter(self, letter_id: str) -> Message:
        """Return a letter.

        Raises:
            NoLetterError: it was not read.
        """
        try:
            return self.letters[letter_id]
        except KeyError:
            raise NoLetterError("this letter is not among those that were read last") from None

    def look_at(self, letter_id: str, outcome_of: OutcomeOf) -> dict[str, Any]:
        """Return all that is known of a letter.

        Raises:
            NoLetterError: it was not read.
        """
        letter = self.letter(letter_id)
        told = _row(describe(letter), outcome_of, MAX_LINE)
        body = letter.data[:MAX_BODY_SHOWN]
        attributes = {
            brief(name): brief(value, MAX_LINE) for name, value in letter.attributes.items()
        }
        return {**told, "attributes": attributes, "hex": _hex_lines(body), "text": _text_of(body)}

    def name_of(self, letter_id: str) -> str:
        """Say which letter it is: in words, as long as it stands here."""
        told = self.descriptions.get(letter_id, {})
        return brief(told.get("subject") or told.get("event_id") or letter_id)


def _row(told: dict[str, Any], outcome_of: OutcomeOf, longest: int = MAX_TEXT) -> dict[str, Any]:
    texts = {
        name: brief(value, longest) if isinstance(value, str) else value
        for name, value in told.items()
        if name != "attributes"
    }
    return {**texts, "id": told["id"], "outcome": outcome_of(told["id"])}


def _hex_lines(data: bytes) -> list[str]:
    """Write bytes as hex, 16 a line, each with its place and what of it is ASCII."""
    lines = []
    for place in range(0, len(data), 16):
        part = data[place : place + 16]
        ascii_only = "".join(chr(each) if 32 <= each < 127 else "." for each in part)
        lines.append(f"{place:06x}  {part.hex(' '):<47}  {ascii_only}")
    return lines


def _text_of(data: bytes) -> str | None:
    """Return bytes as text, its lines kept; None if they are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            return None
        text = data[: error.start].decode()  # cut in the middle of a character
    lines = text.replace("\r\n", "\n").split("\n")
    return None if "\0" in text else "\n".join(brief(each, len(each)) for each in lines)

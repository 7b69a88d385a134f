"""What can never succeed is moved away, counted, and told: in one line for all of a reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from MessageBroker import BrokerInterface, Message, Subscription
from Modelling.errors import ImageError
from Pipeline.observability.waiting import Reason
from Pipeline.script.script import Script

logger = logging.getLogger(__name__)

# So many different faults are named in a line; the letters say each.
NAMED_FAULTS = 3


@dataclass(frozen=True)
class Rejected:
    """A received message that nobody can work on.

    Attributes:
        message: as it came.
        reason: why, in words that are the same for the same fault.
        error: the details.
    """

    message: Message
    reason: str
    error: BaseException | str

    @property
    def fault(self) -> str:
        """What is the same for the same fault: of an image's error what was not its own."""
        return self.error.reason if isinstance(self.error, ImageError) else str(self.error)


@dataclass(frozen=True)
class LetterWithoutMessage:
    """What cannot become a message of its topic.

    Attributes:
        data: the original bytes.
        reason: why, in words that are the same for the same fault.
        error: the details.
        attributes: what the letter says of it beside them.
        place: where it was found; the letter says so, and the log.
    """

    data: bytes
    reason: str
    error: BaseException | str
    attributes: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)

    @property
    def fault(self) -> str:
        """What is the same for the same fault."""
        return str(self.error)


Dead = TypeVar("Dead", Rejected, LetterWithoutMessage)


def move_away(script: Script, subscription: Subscription, rejected: Sequence[Rejected]) -> None:
    """Dead-letter messages of a subscription, all of a reason at once: junk may come in floods.

    What cannot be moved stays un-acked, and comes again.
    """
    for reason, alike in _by_reason(rejected):
        messages = [each.message for each in alike]
        errors = [each.error for each in alike]
        with script.work.confirming():
            moved = subscription.dead_letter(messages, reason, errors)
        if moved < len(messages):
            script.waiting.begin(
                Reason.DEAD_LETTER, f"dead letters of {subscription.topic} cannot be sent"
            )
        else:
            script.waiting.end(Reason.DEAD_LETTER)
        if moved:
            _tell(moved, reason, _summary(alike), {"message_id": messages[0].id})


def publish_letters(
    script: Script, broker: BrokerInterface, topic: str, letters: Sequence[LetterWithoutMessage]
) -> None:
    """Dead-letter what never was a message of `topic`, and wait for the broker's confirmation."""
    if not letters:
        return
    with script.work.confirming():
        confirmations = [
            broker.publish_dead_letter(
                topic,
                letter.data,
                reason=letter.reason,
                error=letter.error,
                attributes={**letter.attributes, **letter.place},
            )
            for letter in letters
        ]
        for confirmation in confirmations:
            confirmation.result()
    script.tally.lines_dead_lettered += len(letters)
    for reason, alike in _by_reason(letters):
        _tell(len(alike), reason, _summary(alike), alike[0].place)


def _by_reason(dead: Sequence[Dead]) -> Iterable[tuple[str, list[Dead]]]:
    groups: dict[str, list[Dead]] = {}
    for each in dead:
        groups.setdefault(each.reason, []).append(each)
    return groups.items()


def _summary(alike: Sequence[Dead]) -> BaseException | str:
    """Put the faults into words, the most frequent first."""
    if len(alike) == 1:
        return alike[0].error
    faults = Counter(each.fault for each in alike).most_common()
    named = [
        f"{fault} ({number})" if len(faults) > 1 else fault
        for fault, number in faults[:NAMED_FAULTS]
    ]
    others = len(faults) - len(named)
    return "; ".join(named) + (f"; {others} other faults" if others else "")


def _tell(
    number: int,
    reason: str,
    error: BaseException | str,
    place: Mapping[str, str],
) -> None:
    logger.warning(
        "%d dead-lettered: %s: %s%s",
        number,
        reason,
        error,
        "".join(f", {name} {value}" for name, value in place.items()),
        extra={
            "event": "dead-letter",
            "reason": reason,
            "error": str(error),
            "number": number,
            **place,
        },
    )

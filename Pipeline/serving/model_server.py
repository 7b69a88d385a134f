"""What `model_server_sub.py` does with a batch: predict, store, acknowledge.

Of large batches receiving and storing overlap with predicting. *Predict* makes the images into one
batch and runs the model. *Store* puts the results durably into the queue, dead-letters what is no
image, and only then acks. An image that cannot be decoded or predicted costs itself, not its batch.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from DurableText.moments import timestamp
from DurableText.program.wording import counted
from MessageBroker import Message, Subscription
from Modelling.errors import UNDECODABLE, PreparationStoppedError
from Modelling.predictor import Answer, Item, Predictor, sizes_of, traits_of
from Pipeline.events import EventError, image_origin, inference_record, read_item
from Pipeline.observability.waiting import SLOW_MODEL_SECONDS, Reason
from Pipeline.script.script import Script
from Pipeline.serving.ahead import pieces_of, prepared_ahead
from Pipeline.serving.answering import Failure, Model, Prepared, answer_each
from Pipeline.serving.dead_letters import Rejected, move_away
from Pipeline.serving.in_flight import InFlight, Suspicion
from Pipeline.serving.served import Served
from Pipeline.serving.shadow import Shadow
from Pipeline.serving.watchdog import Watchdog
from Queue import (
    QueueFullError,
    QueueLockedError,
    QueuePassingError,
    QueueUnavailableError,
    Record,
    ResultQueue,
    encode_record,
)

logger = logging.getLogger(__name__)

KILLED_THE_SERVER = "killed the model server"

# A full queue, a lock that a stopped process holds, a full disk.
PASSING_TROUBLE: dict[type[Exception], Reason] = {
    QueueFullError: Reason.QUEUE_FULL,
    QueueLockedError: Reason.QUEUE_LOCKED,
    QueuePassingError: Reason.QUEUE,
}

# How long a put waits for room before it looks whether the script shall stop.
PUT_SECONDS = 0.5


# Of a batch of photographs, at most: what is stored of them is acknowledged, and makes room for
# others, while the next are decoded. All that may be un-acked is four times as much.
MAX_BATCH_BYTES = 16 << 20
# So few images are predicted and stored before the next are received: see `Pipeline.serving.steps`.
FEW = 1


@dataclass(frozen=True)
class Received:
    """A batch, when it came, and what is held against it."""

    messages: list[Message]
    received_at: str = field(default_factory=timestamp)
    suspicion: Suspicion = Suspicion.NONE


def batches_of(
    messages: Sequence[Message], suspicion_of: Callable[[str], Suspicion]
) -> Iterator[Received]:
    """Share what was received out into batches of bounded size, in its order.

    Those under suspicion are batches by themselves, so that each is acknowledged, or given up, as
    soon as it is worked on, and waits for no other.

    Args:
        messages: what was received.
        suspicion_of: tells of a message's id what is held against it.
    """
    received_at = timestamp()
    batch: list[Message] = []
    size = 0
    for message in messages:
        suspicion = suspicion_of(message.id)
        if suspicion is not Suspicion.NONE:
            yield Received([message], received_at, suspicion)
            continue
        if batch and size + len(message.data) > MAX_BATCH_BYTES:
            yield Received(batch, received_at)
            batch, size = [], 0
        batch.append(message)
        size += len(message.data)
    if batch:
        yield Received(batch, received_at)


def is_large(batch: Received) -> bool:
    """Tell whether it is worth it that others are received and stored beside it."""
    return len(batch.messages) > FEW


@dataclass
class BatchOutcome:
    """What became of a batch, and when it had come."""

    received_at: str
    predicted: list[Message] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


@dataclass(frozen=True)
class TimeLimits:
    """How long the work on a batch may take (s), before the server counts as hanging.

    Attributes:
        batch: of decoding and predicting one; afterwards others have it too.
        predict: of one run of the model, or of the preparation for it where that may hang; None is
            for ever.
    """

    batch: float
    predict: float | None


class PredictStep:
    """Decodes and predicts batches, always in the same thread."""

    def __init__(
        self,
        script: Script,
        models: Served,
        in_flight: InFlight,
        broker_name: str,
        watchdog: Watchdog,
        limits: TimeLimits,
    ) -> None:
        """Begin with the model that answers now.

        Args:
            script: its context.
            models: which model answers.
            in_flight: the guard against images that kill the server.
            broker_name: from which broker the images come.
            watchdog: ends the server where the work on some images never ends.
            limits: when that is.
        """
        self._script = script
        self._models = models
        self._in_flight = in_flight
        self._broker_name = broker_name
        self._watchdog = watchdog
        self._limits = limits

    def predict(self, received: Received) -> BatchOutcome:
        """Predict a batch, but for one that is condemned."""
        outcome = BatchOutcome(received.received_at)
        if received.suspicion is Suspicion.CONDEMNED:
            outcome.rejected.extend(
                Rejected(message, KILLED_THE_SERVER, "in flight at each crash")
                for message in received.messages
            )
        else:
            self._predict_guarded(received.messages, received.received_at, outcome)
        return outcome

    def _predict_guarded(
        self, messages: Sequence[Message], received_at: str, outcome: BatchOutcome
    ) -> None:
        kept_too_long = (
            f"{counted(len(messages), 'image')} were worked on for more than max_lease_seconds "
            f"({self._limits.batch:g}), and others have them by now: the server ends, and counts "
            "it as a crash of theirs"
        )
        with (
            self._in_flight.working_on([message.id for message in messages]),
            self._watchdog.limit(self._limits.batch, kept_too_long),
        ):
            readable, items = _readable(messages, outcome)
            try:
                for predictor, numbers in self._models.parts(
                    len(readable), lambda number: self._id_of(readable[number])
                ):
                    part = [readable[number] for number in numbers]
                    brought = [items[number] for number in numbers]
                    self._answer_all(predictor, part, brought, received_at, outcome)
            except PreparationStoppedError:
                logger.warning(
                    "stopping: %d images were not decoded in time; they come again", len(readable)
                )

    def _answer_all(
        self,
        predictor: Predictor,
        messages: Sequence[Message],
        items: Sequence[Item],
        received_at: str,
        outcome: BatchOutcome,
    ) -> None:
        """Answer items piece by piece; while one is predicted the next is prepared."""
        pieces = pieces_of(sizes_of(predictor, items))
        model = Model(
            functools.partial(self._prepare, predictor), functools.partial(self._run, predictor)
        )
        for piece, prepared in prepared_ahead(lambda piece: model.prepare(items[piece]), pieces):
            left = iter(messages[piece])
            for answers in answer_each(model, items[piece], prepared, _tell_failed):
                answered = zip(answers, left, strict=False)  # others may follow
                self._note(predictor.version, answered, received_at, outcome)

    def _note(
        self,
        version: str,
        answered: Iterable[tuple[Answer | Failure, Message]],
        received_at: str,
        outcome: BatchOutcome,
    ) -> None:
        """Make results of answers, and reject what has none."""
        predicted_at = timestamp()
        for answer, message in answered:
            if isinstance(answer, Failure):
                outcome.rejected.append(Rejected(message, answer.reason, answer.error))
                continue
            outcome.predicted.append(message)
            outcome.records.append(
                inference_record(
                    image_origin(message, self._broker_name),
                    answer=answer,
                    model=version,
                    received_at=received_at,
                    predicted_at=predicted_at,
                    min_confidence=self._script.options.min_confidence,
                )
            )

    def _id_of(self, message: Message) -> str:
        return image_origin(message, self._broker_name).id

    def _prepare(self, predictor: Predictor, items: Sequence[Item]) -> Prepared:
        """Prepare items, watched as the model is, for which it may be code of the same kind."""
        sure_to_end = traits_of(predictor).preparation_ends
        with self._watched(
            Reason.PREPARATION, "the items are not prepared", len(items), limited=not sure_to_end
        ):
            return predictor.prepare_batch(items)

    def _run(self, predictor: Predictor, batch: Any, count: int) -> Sequence[Answer]:
        started = time.perf_counter()
        with self._watched(Reason.MODEL, "the model has not answered", count):
            answers = predictor.predict(batch)
        self._script.metrics.inference(time.perf_counter() - started)
        return answers

    @contextlib.contextmanager
    def _watched(
        self, reason: Reason, what: str, count: int, *, limited: bool = True
    ) -> Iterator[None]:
        """Watch code of others: what never ends must be seen, and may be ended."""
        limit = self._limits.predict if limited else None
        with (
            self._script.waiting.on(reason, what, SLOW_MODEL_SECONDS),
            self._watchdog.tell(
                SLOW_MODEL_SECONDS,
                f"{what} for {SLOW_MODEL_SECONDS:g} s, and {counted(count, 'image')} wait for it: "
                "--predict-timeout SECONDS ends a server whose model hangs",
            ),
            self._watchdog.limit(
                limit,
                f"{what} within --predict-timeout ({limit} s): the server ends, and counts it as a "
                f"crash of the {counted(count, 'image')}",
            ),
        ):
            yield


def _tell_failed(count: int, why: str) -> None:
    logger.warning("a batch of %d failed (%s): one by one", count, why)


def _readable(
    messages: Sequence[Message], outcome: BatchOutcome
) -> tuple[list[Message], list[Item]]:
    """Read what each message brings; whose event is none is rejected."""
    readable: list[Message] = []
    items: list[Item] = []
    for message in messages:
        try:
            item = read_item(message)
        except EventError as error:
            outcome.rejected.append(Rejected(message, UNDECODABLE, error))
        else:
            readable.append(message)
            items.append(item)
    return readable, items


class StoreStep:
    """Stores what was predicted, in whichever thread."""

    def __init__(
        self,
        script: Script,
        subscription: Subscription,
        queue: ResultQueue,
        shadow: Shadow | None = None,
    ) -> None:
        self._script = script
        self._subscription = subscription
        self._queue = queue
        self._shadow = shadow

    def store(self, outcome: BatchOutcome) -> None:
        """Put the results durably, dead-letter the rest, then ack."""
        with self._script.tracing.spans("classify image", outcome.records, since="received_at"):
            if outcome.records and not self._put([encode_record(r) for r in outcome.records]):
                return  # stopping: un-acked, so it comes again
        self._script.metrics.predicted(outcome.records)
        self._subscription.ack(outcome.predicted)
        self._script.tally.add(len(outcome.predicted))
        move_away(self._script, self._subscription, outcome.rejected)
        if self._shadow is not None and outcome.predicted:
            self._shadow.offer(outcome.predicted, outcome.received_at)

    def _put(self, left: list[Record]) -> bool:
        """Wait out what passes by itself; False if the script shall stop meanwhile."""

        def attempt() -> bool:
            try:
                self._queue.put(left, timeout=PUT_SECONDS)
            except QueueUnavailableError as error:
                del left[: error.appended or 0]  # unknown: all again, and the DB drops repetitions
                raise
            return True

        return self._script.wait_out(PASSING_TROUBLE, attempt) is not None

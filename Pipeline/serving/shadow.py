"""A shadow: a model that predicts what another has answered, and answers nobody.

It works after the served answer was acknowledged, in a thread of its own, and falls behind by
dropping images, which is counted; so it holds up no answer. What it says is an event of its own
type on the topic of the results, kept beside the DB: see `python -m DB compare`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from DurableText.moments import timestamp
from DurableText.program.closing import ClosedAtExit
from MessageBroker import BrokerInterface, Message
from Modelling.predictor import Answer, Predictor, labels_of
from Pipeline.events import EventError, image_origin, inference_record, read_item, shadow_events
from Pipeline.observability.waiting import SLOW_MODEL_SECONDS
from Pipeline.serving.answering import Failure, Model, answer_each
from Pipeline.serving.loading import ended_by_signals
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop
from Queue import encode_record

logger = logging.getLogger(__name__)

# Batches that wait for the shadow, and what they may hold in memory.
WAITING_BATCHES = 4
MAX_WAITING_BYTES = 64 << 20

# How much less of the processor the shadow's thread gets where answers need it: Linux has it by
# thread.
NICENESS = 10

# Between two lines that tell how many were dropped.
TELL_SECONDS = 60.0

# For what it is doing, at the end.
CLOSE_SECONDS = 5.0

SCRIPT_ENDS = "the script ends"


class Answered(NamedTuple):
    """Images that were answered and acknowledged."""

    messages: Sequence[Message]
    received_at: str


class Shadow(ClosedAtExit):
    """Predicts what is offered to it, as far as it comes.

    Attributes:
        predicted: images whose answers were handed to the broker.
        dropped: images that it did not come to, or failed on.
    """

    def __init__(
        self,
        load: Callable[[], Predictor],
        broker: BrokerInterface,
        topic: str,
        stop: Stop,
        watchdog: Watchdog,
    ) -> None:
        """Load the model and begin.

        Args:
            load: makes the predictor, warmed up.
            broker: what the answers are published with.
            topic: of the results.
            stop: tells when nothing more is begun.
            watchdog: tells where a batch takes very long.

        Raises:
            CheckpointError: the model cannot be used.
        """
        self.predicted = 0
        self.dropped = 0
        self._offered = 0
        self._watchdog = watchdog
        self._broker = broker
        self._topic = topic
        self._stop = stop
        # In a thread that gives way already: those that a runtime starts for itself inherit it.
        with ended_by_signals(), ThreadPoolExecutor(1, initializer=_give_way) as thread:
            self._predictor = thread.submit(load).result()
        self._waiting: queue.Queue[Answered | None] = queue.Queue(WAITING_BATCHES)
        self._bytes = 0
        self._told_at = 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    @property
    def images(self) -> Mapping[str, int]:
        """What became of the images, by outcome."""
        return {"predicted": self.predicted, "dropped": self.dropped}

    @property
    def version(self) -> str:
        """The version of the model."""
        return self._predictor.version

    @property
    def labels(self) -> Sequence[str] | None:
        """The labels of the model; see `labels_of`."""
        return labels_of(self._predictor)

    def offer(self, messages: Sequence[Message], received_at: str) -> None:
        """Hand answered images over; those that there is no room for are dropped, and counted."""
        size = sum(len(message.data) for message in messages)
        with self._lock:
            self._offered += len(messages)
            if self._bytes + size <= MAX_WAITING_BYTES:
                with contextlib.suppress(queue.Full):
                    self._waiting.put_nowait(Answered(messages, received_at))
                    self._bytes += size
                    return
        self._drop(len(messages), "it falls behind")

    def close(self) -> None:
        """End with what waits, as far as that is soon done; a stop that was asked for drops it."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        while not self._waiting.empty():
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()
        # What it did not come to, and what it is at where it does not end: its thread is left then.
        self._drop(self._offered - self.predicted - self.dropped, SCRIPT_ENDS)
        logger.info(
            "shadow %s: %d predicted, %d dropped", self.version, self.predicted, self.dropped
        )

    def _work(self) -> None:
        _give_way()
        while (answered := self._waiting.get()) is not None:
            with self._lock:
                self._bytes -= sum(len(message.data) for message in answered.messages)
            if self._stop.requested:
                self._drop(len(answered.messages), SCRIPT_ENDS)
                continue
            with self._watchdog.tell(
                SLOW_MODEL_SECONDS,
                f"the shadow {self.version} has not answered for {SLOW_MODEL_SECONDS:g} s: if it "
                "hangs, it drops all that comes",
            ):
                self._predict(answered)
        self._predictor.close()

    def _predict(self, answered: Answered) -> None:
        """Predict a batch; what has no answer is dropped, and costs itself alone."""
        messages, items = [], []
        for message in answered.messages:
            with contextlib.suppress(EventError):
                items.append(read_item(message))
                messages.append(message)
        self._drop(len(answered.messages) - len(messages), "it cannot read them")
        left, settled = iter(messages), 0
        try:
            prepare, predict = self._predictor.prepare_batch, self._predictor.predict
            model = Model(prepare, lambda batch, _count: predict(batch))
            for answers in answer_each(model, items, lambda: prepare(items)):
                predicted_at = timestamp()
                for answer, message in zip(answers, left, strict=False):  # others may follow
                    settled += 1
                    self._settle(message, answer, answered.received_at, predicted_at)
                if self._stop.requested:
                    break
            self._drop(len(messages) - settled, SCRIPT_ENDS)
        except Exception as error:  # noqa: BLE001 - whatever it is: the shadow answers nobody
            self._drop(len(messages) - settled, _named(error))

    def _settle(
        self, message: Message, answer: Answer | Failure, received_at: str, predicted_at: str
    ) -> None:
        """Publish an answer; drop what has none, or one that no event could hold."""
        if isinstance(answer, Failure):
            self._drop(1, f"{answer.reason}: {answer.error}")
            return
        version, prefix = self._predictor.version, self._broker.cloudevents_prefix
        try:
            record = inference_record(
                image_origin(message, self._broker.name),
                answer=answer,
                model=version,
                received_at=received_at,
                predicted_at=predicted_at,
            )
            for event in shadow_events([encode_record(record)], version, prefix=prefix):
                self._broker.publish(self._topic, event.data, attributes=event.attributes)
        except Exception as error:  # noqa: BLE001 - the same
            self._drop(1, _named(error))
        else:
            self.predicted += 1

    def _drop(self, number: int, why: str) -> None:
        if not number:
            return
        with self._lock:  # by the thread that offers, and by the shadow's
            self.dropped += number
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            logger.warning(
                "the shadow %s has dropped %d images by now: %s", self.version, self.dropped, why
            )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _give_way() -> None:
    with contextlib.suppress(OSError, AttributeError):
        thread = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, before + NICENESS)  # the system has a most

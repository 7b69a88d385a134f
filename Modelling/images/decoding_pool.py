"""Processes that decode pictures, so that one that crashes or hangs its decoder costs itself alone.

What strangers send is parsed by large libraries written in C. A defect in one of them may end the
process or write past its memory, and a picture of a few kilobytes may ask for minutes of work. So
pictures are decoded in processes that have nothing but the picture, each within a budget of CPU
time and memory that does not depend on knowing the trick; see `decoding_worker`. When one dies, the
picture it was working on is blamed, another process takes its place, and the others go on.

They also use all cores, which threads of one Python process do not: what NumPy does to small arrays
holds the global lock. `docs/modelling.md` has the measurements.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence

from DurableText.program.closing import ClosedAtExit
from Modelling.cores import available_cores
from Modelling.data_preparation import Preparation
from Modelling.errors import PreparationStoppedError
from Modelling.images.decoding_process import (
    Answer,
    DecodingProcess,
    PictureBatch,
    error_of,
    memory_file,
)
from Modelling.images.decoding_worker import READY

logger = logging.getLogger(__name__)

# CPU time for one picture. The largest good ones take about one second: 50 million pixels of
# progressive JPEG.
IMAGE_SECONDS = 2.0

# What one process is given at once: enough that the way there and back costs little, little enough
# that all end at about the same time.
CHUNK_PICTURES = 16
CHUNK_BYTES = 1 << 19

# How many processes may be killed while they start, for want of memory, say, before no more are
# started.
FAILED_STARTS = 3

# Between two looks whether the work is to be given up.
LOOK_SECONDS = 0.1


class DecodingPool(ClosedAtExit):
    """As many processes as cores, started when the first pictures come.

    `prepare` may be called from any thread; one call after another is served.
    """

    def __init__(
        self,
        processes: int | None = None,
        image_seconds: float = IMAGE_SECONDS,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start nothing yet.

        Args:
            processes: How many; one for each core if None.
            image_seconds: CPU time that one picture may take.
            give_up: Asked ten times a second while pictures are waited for.
        """
        self._count = processes or available_cores()
        self._seconds = image_seconds
        self._give_up = give_up
        self._processes: list[DecodingProcess] = []
        self._turn = threading.Lock()
        self._lock_file = memory_file()
        self._closed = False

    def prepare(
        self, datas: Sequence[bytes], whites: Sequence[float | None], preparation: Preparation
    ) -> list[Answer]:
        """Decode and prepare pictures.

        Args:
            datas: Their bytes.
            whites: What is white in each, if it is known.
            preparation: What they are to be made into.

        Returns:
            For each what it became, or its error.

        Raises:
            PreparationStoppedError: `give_up` said so, or the pool was closed.
            OSError: A process cannot be started.
        """
        with self._turn:
            if self._closed:
                raise PreparationStoppedError
            waiting = deque(_shared_out(datas, whites, preparation, self._count))
            try:
                return self._run(waiting, len(datas))
            except BaseException:
                self._discard()  # what they are at is of no use any more
                raise

    def _run(self, waiting: deque[PictureBatch], count: int) -> list[Answer]:
        while len(self._processes) < min(self._count, len(waiting)):
            self._processes.append(DecodingProcess(self._seconds, self._lock_file))
        work = _Work(waiting, count, self._seconds)
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                selector.register(process.socket, selectors.EVENT_READ, process)
                if process.ready:
                    work.give_to(process)
            while not work.done:
                if self._closed or self._give_up():
                    raise PreparationStoppedError
                for key, _ in selector.select(LOOK_SECONDS):
                    if not work.hear(key.data):
                        selector.unregister(key.fileobj)
                        successor = self._replace(key.data)
                        selector.register(successor.socket, selectors.EVENT_READ, successor)
                for process in self._processes:
                    if process.overdue:
                        process.kill()
        return work.answers

    def _replace(self, dead: DecodingProcess) -> DecodingProcess:
        dead.close()
        successor = DecodingProcess(self._seconds, self._lock_file)
        self._processes[self._processes.index(dead)] = successor
        return successor

    def _discard(self) -> None:
        for process in self._processes:
            process.close()
        self._processes.clear()

    def close(self) -> None:
        """End the processes; whoever waits for pictures gets `PreparationStoppedError`."""
        self._closed = True
        with self._turn:
            self._discard()
            if self._lock_file >= 0:
                os.close(self._lock_file)
            self._lock_file = -1


class _Work:
    """The pictures of one call: those that wait, those that are settled."""

    def __init__(self, waiting: deque[PictureBatch], count: int, image_seconds: float) -> None:
        self._waiting = waiting
        self._answers: list[Answer | None] = [None] * count
        self._left = count
        self._seconds = image_seconds
        self._suspects: set[int] = set()
        self._failed_starts = 0

    @property
    def done(self) -> bool:
        return self._left == 0

    @property
    def answers(self) -> list[Answer]:
        assert self.done
        return [answer for answer in self._answers if answer is not None]

    def give_to(self, process: DecodingProcess) -> None:
        if self._waiting:
            process.give(self._waiting.popleft())

    def hear(self, process: DecodingProcess) -> bool:
        """Take what a process says; False if it is dead."""
        line = process.heard()
        if line == b"":
            self._bury(process)
            return False
        if line is not None:
            if line != READY and process.pictures is not None:
                places = process.pictures.places
                for place, answer in zip(places, process.answers(line), strict=True):
                    self._settle(place, answer)
            self.give_to(process)
        return True

    def _settle(self, place: int, answer: Answer) -> None:
        assert self._answers[place] is None, "a picture is settled once"
        self._answers[place] = answer
        self._left -= 1

    def _bury(self, process: DecodingProcess) -> None:
        """Find out which picture ended a process, and have the others done by another one.

        A picture that took too long is blamed at once. Else it is tried once more, alone: the
        process may have been killed by somebody, or have been spoilt by a picture before this one.
        So is one that was alone when a process died before it had begun, for want of memory, say.
        """
        code = process.exit_code()
        if process.pictures is None:
            self._failed_starts += not process.ready
            if self._failed_starts > FAILED_STARTS or (not process.ready and code > 0):
                raise OSError(
                    f"a process that decodes pictures did not start: it ended with {code}"
                )
            return
        pictures, culprit = process.pictures, process.died_at()
        if culprit is None and len(pictures.places) == 1:
            culprit = 0
        alone = [_only(pictures, index) for index in range(len(pictures.places))]
        if culprit is not None:
            place = pictures.places[culprit]
            if code == -signal.SIGPROF or place in self._suspects:
                error = error_of(code, self._seconds)
                logger.warning("a picture ended the process that decoded it: %s", error)
                self._settle(place, error)
                del alone[culprit]
            self._suspects.add(place)
        self._waiting.extendleft(reversed(alone))


def _only(pictures: PictureBatch, index: int) -> PictureBatch:
    """Take one of several pictures."""
    return PictureBatch(
        pictures.places[index : index + 1],
        pictures.datas[index : index + 1],
        pictures.whites[index : index + 1],
        pictures.preparation,
    )


def _shared_out(
    datas: Sequence[bytes],
    whites: Sequence[float | None],
    preparation: Preparation,
    processes: int,
) -> list[PictureBatch]:
    """Share pictures out, in order, in pieces of bounded number and size."""
    most = max(1, min(CHUNK_PICTURES, -(-len(datas) // processes)))
    pieces: list[list[int]] = []
    size = 0
    for place, data in enumerate(datas):
        if not pieces or len(pieces[-1]) >= most or size + len(data) > CHUNK_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(place)
        size += len(data)
    return [
        PictureBatch(
            tuple(places),
            tuple(datas[place] for place in places),
            tuple(whites[place] for place in places),
            preparation,
        )
        for places in pieces
    ]

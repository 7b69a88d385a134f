"""The way to the queue, and what this host keeps of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from DurableText.program.urls import scheme_of
from Pipeline.observability.waiting import Reason
from Pipeline.script.script import Script
from Pipeline.script.start_up import Server
from Queue import (
    DEFAULT_PATH,
    QueueUnavailableError,
    ResultQueue,
    open_queue,
    state_stem,
)


def open_result_queue(script: Script) -> ResultQueue:
    """Open the queue. A server may come up later, as the broker may; a file is used or not.

    Raises:
        StoppedError: the script shall stop, and still waited.
        QueueError: it cannot be used.
    """
    options = script.options

    def attempt(_seconds_left: float = 0.0) -> ResultQueue:
        return open_queue(options.queue, state_dir=_state_folder(options))

    if scheme_of(options.queue) is None:
        return script.once_there_is_room(attempt, Reason.QUEUE)
    server = Server(QueueUnavailableError, Reason.QUEUE, {"queue": "server"})
    return script.once_it_answers(attempt, server)


def place_of_state(options: argparse.Namespace, queue: ResultQueue) -> Path:
    """Return the path whose stem begins the names of what this host keeps beside a queue.

    That of a text file lies where the file is, unless `--state-dir` says otherwise.
    """
    if options.state_dir is None and scheme_of(options.queue) is None:
        return Path(options.queue)
    return _state_folder(options) / f"{state_stem(queue.name)}.state"


def _state_folder(options: argparse.Namespace) -> Path:
    return options.state_dir or DEFAULT_PATH.parent

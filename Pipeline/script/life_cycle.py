"""How a script begins and ends: signals, exit codes, waiting for the broker."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from MessageBroker import (
    BrokerError,
    BrokerInterface,
    BrokerUnavailableError,
    ConfigurationError,
    MessageBrokerFactory,
)
from MessageBroker.configuration import TopicNames, read_broker_config
from Pipeline.script.logs import configure_logging

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

# How often a waiting script looks whether it shall stop.
POLL_SECONDS = 0.25
# What a script may take to end once it was asked to. Half a minute is what supervisors allow as a
# rule (systemd's own default is 90 s); closing the connections needs some of it.
GRACE_SECONDS = 20.0
# Some supervisors signal the process and then its group: those two are one request.
SAME_REQUEST_SECONDS = 0.2
# One look whether the broker is there.
PING_SECONDS = 10.0
PING_PAUSE_SECONDS = 0.5


class ScriptError(Exception):
    """Raised when a script cannot go on; its text is the one line that the user sees."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StoppedError(Exception):
    """Raised when the script was told to stop before it was ready: it ends with 0."""


class Stop:
    """Whether the script shall end, and who said so."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._requested_at = 0.0
        self._signalled_at: float | None = None

    @property
    def requested(self) -> bool:
        """True once the script shall end."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the script to end."""
        if not self.requested:
            self._requested_at = time.monotonic()
        self._event.set()

    @property
    def grace_left(self) -> float:
        """Seconds within which the script shall have ended; all of them while nobody asked."""
        if not self.requested:
            return GRACE_SECONDS
        return max(0.0, self._requested_at + GRACE_SECONDS - time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Wait; True if the script shall end."""
        return self._event.wait(min(seconds, threading.TIMEOUT_MAX))

    def on_signals(self) -> None:
        """Stop on SIGINT and SIGTERM; on the second one end at once."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            self.request()
        elif now - self._signalled_at > SAME_REQUEST_SECONDS:
            # Whatever was confirmed is durable; whatever was not comes again.
            os._exit(EXIT_FAILED)


def run_script(
    script: str, parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace, Stop], None]
) -> None:
    """Parse the options, run `main`, and exit with the code that its end deserves."""
    options = parser.parse_args()
    configure_logging(script, options.log_level, options.log_format)
    stop = Stop()
    stop.on_signals()
    # What was imported lives as long as the process: the collector need not search it each time.
    gc.freeze()
    try:
        main(options, stop)
    except StoppedError:
        pass
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        logger.error("%s", error)
        sys.exit(code)
    sys.exit(EXIT_DONE)


def exit_code_of(error: Exception) -> int | None:
    """Tell the exit code of an error that a user can act on; None for a defect of ours."""
    # Imported late: a script that uses neither of them must not pay for them.
    from DB import DatabaseError
    from Modelling.errors import CheckpointError
    from Queue import QueueError

    if isinstance(error, ScriptError):
        return error.exit_code
    if isinstance(error, (ConfigurationError, CheckpointError)):
        return EXIT_USAGE
    if isinstance(error, (BrokerError, QueueError, DatabaseError, OSError)):
        return EXIT_FAILED
    return None


def topic_names(options: argparse.Namespace) -> TopicNames:
    """Read the names of the pipeline's topics."""
    return read_broker_config(options.config_dir).topics


@contextlib.contextmanager
def open_broker(options: argparse.Namespace, stop: Stop, *topics: str) -> Iterator[BrokerInterface]:
    """Create the broker's handler, wait until it answers, create `topics`; close it at the end.

    Raises:
        BrokerUnavailableError: it did not answer within `--wait-for-broker` seconds.
        ConfigurationError, AuthenticationError: waiting would not help.
    """
    broker = MessageBrokerFactory.get_broker(options.broker, config_dir=options.config_dir)
    try:
        _wait_until_it_answers(broker, options.wait_for_broker, stop)
        for topic in topics:
            if broker.create_topic(topic):
                logger.info("created the topic %s", topic)
    except BaseException:
        broker.close(timeout=0.0)
        raise
    try:
        yield broker
    finally:
        broker.close(timeout=stop.grace_left)


def _wait_until_it_answers(broker: BrokerInterface, seconds: float, stop: Stop) -> None:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            left = deadline - time.monotonic()
            broker.ping(timeout=min(PING_SECONDS, max(1.0, left)))
        except BrokerUnavailableError as error:
            if stop.requested:
                raise StoppedError from error
            if time.monotonic() >= deadline:
                raise
            if not told:
                logger.warning(
                    "%s; waiting for it for %g seconds",
                    error,
                    seconds,
                    extra={"event": "outage", "broker": broker.name, "seconds": seconds},
                )
            told = True
            stop.wait(PING_PAUSE_SECONDS)
        else:
            return

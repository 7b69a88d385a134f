"""How a script begins and ends: its exit code, its metrics, waiting for the broker."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator

from MessageBroker import (
    BrokerError,
    BrokerInterface,
    BrokerUnavailableError,
    ConfigurationError,
    MessageBrokerFactory,
)
from MessageBroker.configuration import TopicNames, read_broker_config
from Pipeline.observability.metrics import Metrics
from Pipeline.script.logs import configure_logging
from Pipeline.stop import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, ScriptError, Stop, StoppedError

logger = logging.getLogger(__name__)

# One look whether the broker is there.
PING_SECONDS = 10.0
PING_PAUSE_SECONDS = 0.5


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


def open_metrics(script: str, options: argparse.Namespace, stop: Stop) -> Metrics:
    """Serve the metrics of a script; does nothing with `--metrics-port 0`.

    A port that is in use stops nothing: it is told once and tried again until it is free.

    Args:
        script: its name.
        options: the script's options.
        stop: tells when the script drains.
    """
    if options.metrics_port == 0:
        return Metrics()
    # Imported late: prometheus-client costs a tenth of a second that most runs need not pay.
    from Pipeline.observability.live_metrics import LiveMetrics

    return LiveMetrics(script, options.metrics_port, stop)

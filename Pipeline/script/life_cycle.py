"""How a script begins and ends: options, logs, metrics, traces, and its exit code."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable

from DurableText.command_line import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, refusal_of
from MessageBroker import BrokerError, ConfigurationError
from Pipeline.observability.metrics import Metrics
from Pipeline.observability.tracing import open_tracing
from Pipeline.observability.waiting import Waiting
from Pipeline.script.logs import configure_logging
from Pipeline.script.script import Script
from Pipeline.stop import ScriptError, Stop, StoppedError

logger = logging.getLogger(__name__)

# For what libraries do at the interpreter's end.
LAST_SECONDS = 5.0

# Objects made and not gone yet before the collector looks for circles among them. Its 700 cost 2 %
# of all CPU time.
COLLECTOR_THRESHOLD = 20_000


def run_script(name: str, parser: argparse.ArgumentParser, main: Callable[[Script], None]) -> None:
    """Parse the options, run `main`, and exit with the code that its end deserves."""
    options = parser.parse_args()
    configure_logging(name, options.log_level, options.log_format)
    stop, waiting = Stop(), Waiting()
    stop.on_signals()
    end_with_threads(stop)
    # What was imported lives as long as the process: the collector need not search it each time.
    gc.freeze()
    # And what comes and goes is no garbage: a batch of 1,024 has some ten thousand objects.
    gc.set_threshold(COLLECTOR_THRESHOLD)
    code: int | None = None
    try:
        with (
            open_tracing(name) as tracing,
            open_metrics(
                name, (options.metrics_host, options.metrics_port), stop, waiting
            ) as metrics,
        ):
            main(Script(options, stop, waiting, metrics, tracing))
    except StoppedError:
        pass
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        logger.error("%s", refusal_of(error) if isinstance(error, OSError) else error)
    if code is None:
        code = EXIT_FAILED if stop.failed else EXIT_DONE
    end_even_so(code)
    sys.exit(code)


def end_even_so(code: int, end: Callable[[int], object] = os._exit) -> None:
    """End the process soon, though somebody else's code has left something that runs.

    All is closed by now. But Python waits for every thread that is not marked as one that may be
    left, and for such processes, and a predictor of one's own may have begun some.
    """

    def leave() -> None:
        processes = sys.modules.get("multiprocessing")
        for each in processes.active_children() if processes else ():
            each.terminate()  # nobody else would end it
        end(code)

    timer = threading.Timer(LAST_SECONDS, leave)
    timer.daemon = True
    timer.start()


def end_with_threads(stop: Stop) -> None:
    """Log what ends a thread, as a line like all others, and end the script with it.

    Whatever the thread was for would be missed without a sign.
    """

    def on_uncaught(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit or args.exc_value is None:
            return
        name = args.thread.name if args.thread else "unknown"
        error = args.exc_value
        logger.critical(
            "the thread %r was ended by a defect; the script ends, too",
            name,
            exc_info=(args.exc_type, error, args.exc_traceback),
        )
        stop.fail()

    threading.excepthook = on_uncaught


def exit_code_of(error: Exception) -> int | None:
    """Tell the exit code of an error that a user can act on; None for a defect of ours."""
    # Imported late: a script that uses neither of them must not pay for them.
    from DB import DatabaseConfigurationError, DatabaseError
    from Modelling.errors import CheckpointError
    from Queue import QueueConfigurationError, QueueError

    if isinstance(error, ScriptError):
        return error.exit_code
    wrong_use = (
        ConfigurationError,
        CheckpointError,
        QueueConfigurationError,
        DatabaseConfigurationError,
    )
    if isinstance(error, wrong_use):
        return EXIT_USAGE
    if isinstance(error, (BrokerError, QueueError, DatabaseError, OSError)):
        return EXIT_FAILED
    return None


def open_metrics(script: str, address: tuple[str, int], stop: Stop, waiting: Waiting) -> Metrics:
    """Serve the metrics of a script; does nothing with port 0.

    A port that is in use stops nothing: it is told once and tried again until it is free.

    Args:
        script: its name.
        address: `--metrics-host` and `--metrics-port`.
        stop: tells when the script drains.
        waiting: tells what it waits for.
    """
    if address[1] == 0:
        return Metrics()
    # Imported late: prometheus-client costs a tenth of a second that most runs need not pay.
    from Pipeline.observability.live_metrics import LiveMetrics

    return LiveMetrics(script, address, stop, waiting)

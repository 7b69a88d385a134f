"""The command-line options, and which of them the scripts share."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from DurableText import command_line
from DurableText.installation.command_line import command_parser
from DurableText.storage import STORAGE, make_durable_directory
from DurableText.urls import scheme_of
from MessageBroker import add_broker_option

Number = TypeVar("Number", int, float)

# The fastest sizes of the engine are 8 to 64; larger batches spread the fsync and the acks.
DEFAULT_BATCH_SIZE = 1024
DEFAULT_BROKER_WAIT_SECONDS = 10.0
# Nobody else's until it is meant: the metrics have no password.
DEFAULT_METRICS_HOST = "127.0.0.1"


class _HelpWithDefaults(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Shows the default of each option that has one, and the examples as they stand."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or (action.help or "").find("default: ") >= 0
        return action.help if told else super()._get_help_string(action)


def script_parser(script: str, description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that all four scripts have."""
    parser = command_parser(
        f"{script}.py",
        formatter_class=_HelpWithDefaults,
    )
    parser.description = description
    if parser.prog != f"{script}.py":  # an installed command
        parser.description = description.replace(f"python {script}.py", parser.prog)
    common = parser.add_argument_group("options of all scripts")
    add_broker_option(common)
    common.add_argument(
        "--config-dir", type=folder, metavar="FOLDER", help="another folder of INI files"
    )
    common.add_argument(
        "--wait-for-broker",
        type=not_negative,
        metavar="SECONDS",
        default=DEFAULT_BROKER_WAIT_SECONDS,
        help="how long to wait at the start for a broker, or a server of queue or DB, that is away",
    )
    common.add_argument(
        "--state-dir",
        type=path,
        metavar="FOLDER",
        help="what must be remembered on this host; default: where the queue's text file is; with "
        "a queue elsewhere Queue/",
    )
    common.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least level that is logged",
    )
    common.add_argument("--log-format", choices=("text", "json"), default="text", help="of logs")
    common.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        default=0,
        help="of Prometheus metrics and health; 0: off",
    )
    common.add_argument(
        "--metrics-host",
        metavar="ADDRESS",
        default=DEFAULT_METRICS_HOST,
        help="where it listens; 0.0.0.0 or :: for all addresses of this machine",
    )
    return parser


def add_consumer_options(parser: argparse.ArgumentParser) -> None:
    """Add what all consumers have."""
    group = parser.add_argument_group("options of consumers")
    group.add_argument(
        "--exit-when-idle",
        type=positive,
        metavar="SECONDS",
        help="end with 0 after so long without a message",
    )
    group.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        default=DEFAULT_BATCH_SIZE,
        help="messages at a time, at most",
    )


def add_subscription_option(parser: argparse.ArgumentParser) -> None:
    """Add what consumers of a topic have."""
    parser.add_argument("--subscription", metavar="ID", help="default: the topic's own")


def add_queue_option(parser: argparse.ArgumentParser) -> None:
    """Add where the queue is."""
    # Imported late: scripts without a queue must not pay for it.
    import Queue

    parser.add_argument(
        "--queue",
        type=place,
        metavar="FILE|URL",
        default=Queue.default_queue(),
        help="the queue: a text file, or redis://…; "
        + command_line.default_help(Queue.VARIABLE, Queue.DEFAULT_PATH),
    )


def add_db_option(parser: argparse.ArgumentParser) -> None:
    """Add where the DB is."""
    import DB

    parser.add_argument(
        "--db",
        type=place,
        metavar="FILE|URL",
        default=DB.default_database(),
        help="the DB: a text file, postgresql://… or sqlite:///file; "
        + command_line.default_help(DB.VARIABLE, DB.DEFAULT_PATH),
    )


def path(text: str) -> Path:
    """Parse the name of a file or folder. An empty one, of a variable that is not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, making its folder; a file that is there stays.

    Raises:
        OSError: it cannot.
    """
    try:
        make_durable_directory(STORAGE, path.parent)
    except FileExistsError:  # but no folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def place(text: str) -> str | Path:
    """Parse a URL, or the name of a file."""
    return text if scheme_of(command_line.place(text)) else path(text)


def count(text: str) -> int:
    """Parse a whole number of at least 1, of a size that Python counts lengths with."""
    return _checked(
        text, int, "a whole number of at least 1", lambda value: 1 <= value <= sys.maxsize
    )


def threads(text: str) -> int:
    """Parse a number of threads."""
    # Imported late: three of the scripts have no model.
    from Modelling.network.engine import MAX_THREADS

    meaning = f"a number of threads from 1 to {MAX_THREADS}"
    return _checked(text, int, meaning, lambda value: 1 <= value <= MAX_THREADS)


def positive(text: str) -> float:
    """Parse a number above 0."""
    return _checked(text, float, "a number above 0", lambda value: 0 < value < float("inf"))


def probability(text: str) -> float:
    """Parse a number from 0 to 1."""
    return _checked(text, float, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def not_negative(text: str) -> float:
    """Parse a number of at least 0."""
    return _checked(text, float, "a number of at least 0", lambda value: 0 <= value < float("inf"))


def port(text: str) -> int:
    """Parse a TCP port; 0 is none, or any that is free."""
    return _checked(text, int, "a port from 0 to 65535", lambda value: 0 <= value <= 65535)


def folder(text: str) -> Path:
    """Parse the name of a folder that is there."""
    found = path(text)
    if not found.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return found


def _checked(
    text: str, parse: Callable[[str], Number], meaning: str, accept: Callable[[Number], bool]
) -> Number:
    try:
        value = parse(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
    return value

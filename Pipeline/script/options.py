"""The command-line options, and which of them the scripts share."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

from DurableText import command_line
from DurableText.installation.command_line import command_parser
from DurableText.program import option_types
from DurableText.program.option_types import (
    count,
    folder_name,
    host_name,
    new_folder_name,
    nonempty,
    not_negative,
    port_number,
    positive,
)
from DurableText.program.urls import scheme_of
from DurableText.storage import STORAGE, make_durable_directory
from MessageBroker import add_broker_option

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
        "--config-dir", type=folder_name, metavar="FOLDER", help="another folder of INI files"
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
        type=new_folder_name,
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
        type=port_number,
        metavar="PORT",
        default=0,
        help="of Prometheus metrics and health; 0: off",
    )
    common.add_argument(
        "--metrics-host",
        type=host_name,
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
    parser.add_argument(
        "--subscription", type=nonempty, metavar="ID", help="default: the topic's own"
    )


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
    return text if scheme_of(option_types.place(text)) else Path(text)

"""`python -m Queue status|verify`: how the queue stands, and whether it is sound."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from DurableText.command_line import counted, print_json, run, tell
from Queue.errors import QueueError
from Queue.text.file_queue import DEFAULT_PATH
from Queue.text.report import status, status_text, verify


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if something is wrong with the queue, 2 on wrong usage."""
    return run(_parser(), arguments, QueueError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Queue", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="status|verify")
    show = commands.add_parser("status", help="depth, oldest record, sizes, who holds what")
    show.set_defaults(run=_status)
    check = commands.add_parser("verify", help="read everything; exit code 1 if something is wrong")
    check.set_defaults(run=_verify)
    for command in (show, check):
        command.add_argument(
            "--queue", type=Path, default=DEFAULT_PATH, help="default: %(default)s"
        )
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _status(options: argparse.Namespace) -> int:
    state = status(options.queue)
    if options.json:
        print_json(dataclasses.asdict(state))
    else:
        print(status_text(options.queue, state))
    return 0


def _verify(options: argparse.Namespace) -> int:
    found = verify(options.queue)
    return tell(found, options.queue, counted(found.records, "record"), options.json)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m Queue status|verify`: how the queue stands, and whether it is sound."""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import sys

from DurableText.command_line import default_help, print_json, run, tell
from DurableText.installation.command_line import command_parser
from DurableText.program.option_types import place
from DurableText.program.wording import counted, printable
from Queue.errors import QueueConfigurationError, QueueError
from Queue.queue_factory import DEFAULT_PATH, VARIABLE, default_queue, open_queue


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if something is wrong with the queue, 2 on wrong usage."""
    return run(_parser(), arguments, QueueError, QueueConfigurationError)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("python -m Queue", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="status|verify")
    show = commands.add_parser("status", help="depth, oldest record, sizes, who holds what")
    show.set_defaults(run=_status)
    check = commands.add_parser("verify", help="read everything; exit code 1 if something is wrong")
    check.set_defaults(run=_verify)
    for command in (show, check):
        command.add_argument(
            "--queue",
            type=place,
            metavar="FILE|URL",
            default=default_queue(),
            help=default_help(VARIABLE, DEFAULT_PATH),
        )
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _status(options: argparse.Namespace) -> int:
    with open_queue(options.queue, read_only=True) as queue:
        state = queue.status()
    if options.json:
        print_json(state.as_dict())
    else:
        print("\n".join(map(printable, state.lines(str(options.queue)))))
    return 0


def _verify(options: argparse.Namespace) -> int:
    with open_queue(options.queue, read_only=True) as queue:
        found = queue.verify(options.progress.counting("records read"))
    return tell(found, options.queue, counted(found.records, "record"), options.json)


if __name__ == "__main__":
    sys.exit(main())

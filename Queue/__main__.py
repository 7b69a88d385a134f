"""`python -m Queue status|verify`: how the queue stands, and whether it is sound."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import orjson

from Queue.errors import QueueError
from Queue.file_queue import DEFAULT_PATH
from Queue.report import MAX_PROBLEMS, status, status_text, verify


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, 1 if something is wrong with the queue, 2 on wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except QueueError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
        _print_json(dataclasses.asdict(state))
    else:
        print(status_text(options.queue, state))
    return 0


def _verify(options: argparse.Namespace) -> int:
    found = verify(options.queue)
    if options.json:
        _print_json(vars(found))
        return 1 if found.problem_count else 0
    for problem in found.problems:
        print(problem)
    if found.problem_count > MAX_PROBLEMS:
        print(f"and {found.problem_count - MAX_PROBLEMS:,} more")
    for note in found.notes:
        print(note)
    verdict = f"{found.problem_count:,} problems" if found.problem_count else "sound"
    print(f"{options.queue}: {found.records:,} records: {verdict}")
    return 1 if found.problem_count else 0


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())

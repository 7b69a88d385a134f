"""`python -m DB summary|verify`: what is in the DB, and whether it is sound."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from DB.errors import DatabaseError
from DB.summary import summarise
from DB.text.database import DEFAULT_PATH
from DB.text.report import as_text, verify
from DurableText.command_line import file_with_suffix, print_json, printable, run, tell
from DurableText.storage import STORAGE, make_durable_directory

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if something is wrong with the DB, 2 on wrong usage."""
    return run(_parser(), arguments, DatabaseError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m DB", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="summary|verify")
    summary = commands.add_parser("summary", help="how many, per label, accuracy, latency, models")
    summary.add_argument(
        "--plot",
        type=file_with_suffix(*PICTURE_SUFFIXES),
        metavar="FILE.png",
        help="draw it as well",
    )
    summary.add_argument("--json", action="store_true", help="print JSON")
    summary.set_defaults(run=_summary)
    check = commands.add_parser("verify", help="read everything; exit code 1 if something is wrong")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_verify)
    for command in (summary, check):
        command.add_argument("--db", type=Path, default=DEFAULT_PATH, help="default: %(default)s")
    return parser


def _summary(options: argparse.Namespace) -> int:
    summary = summarise(options.db)
    if options.json:
        print_json(summary.as_dict())
    else:
        print("\n".join(map(printable, as_text(summary).split("\n"))))
    if options.plot is not None:
        from DB.plot import plot

        try:
            if not options.plot.parent.exists():
                make_durable_directory(STORAGE, options.plot.parent)
            plot(summary, options.plot)
        except OSError as error:
            print(f"cannot draw {options.plot}: {error.strerror or error}", file=sys.stderr)
            return 1
        print(f"drawn: {options.plot}", file=sys.stderr)
    return 0


def _verify(options: argparse.Namespace) -> int:
    found = verify(options.db)
    return tell(found, options.db, f"{found.rows:,} rows, {found.bytes:,} bytes", options.json)


if __name__ == "__main__":
    sys.exit(main())

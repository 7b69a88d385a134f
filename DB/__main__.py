"""`python -m DB summary|verify|get|import|rotate|compare`: what is in the DB, and is it sound?"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from DB.compare import as_text as comparison_as_text
from DB.compare import compare
from DB.database_factory import DEFAULT_PATH, VARIABLE, default_database, open_database
from DB.errors import DatabaseConfigurationError, DatabaseError
from DB.report import as_text
from DB.transfer import transfer
from DurableText.command_line import default_help, print_json, run, tell
from DurableText.installation.command_line import command_parser
from DurableText.program.option_types import count_or_none, file_with_suffix, place, utf8
from DurableText.program.wording import counted, printable
from DurableText.storage import STORAGE, make_durable_directory

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")

# What is counted while a command works.
READ = "rows read"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if something is wrong with the DB, 2 on wrong usage."""
    return run(_parser(), arguments, DatabaseError, DatabaseConfigurationError)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("python -m DB", description=__doc__)
    commands = parser.add_subparsers(
        required=True, metavar="summary|verify|get|import|rotate|compare"
    )
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
    get = commands.add_parser("get", help="print a result; exit code 1 if it is not stored")
    get.add_argument("id", type=utf8, help="the image's id")
    get.set_defaults(run=_get)
    take = commands.add_parser("import", help="take the results of another DB over into --db")
    take.add_argument("source", type=place, metavar="FILE|URL", help="the DB that is read")
    take.set_defaults(run=_import)
    rotate = commands.add_parser(
        "rotate", help="begin a new part of a text DB that nobody writes (else: app_2 --rotate-…)"
    )
    rotate.add_argument(
        "--keep", type=count_or_none, metavar="N", help="remove older parts but so many"
    )
    rotate.set_defaults(run=_rotate)
    shadows = commands.add_parser("compare", help="what shadow models say beside what was served")
    shadows.add_argument(
        "--plot",
        type=file_with_suffix(*PICTURE_SUFFIXES),
        metavar="FILE.png",
        help="draw it as well; of several shadows the one with most answers",
    )
    shadows.add_argument("--json", action="store_true", help="print JSON")
    shadows.set_defaults(run=_compare)
    for command in (summary, check, get, take, rotate, shadows):
        command.add_argument(
            "--db",
            type=place,
            metavar="FILE|URL",
            default=default_database(),
            help=default_help(VARIABLE, DEFAULT_PATH),
        )
    return parser


def _summary(options: argparse.Namespace) -> int:
    with open_database(options.db, read_only=True) as db:
        summary = db.summary(options.progress.counting(READ))
    if options.json:
        print_json(summary.as_dict())
    else:
        print("\n".join(map(printable, as_text(summary).split("\n"))))
    if options.plot is None:
        return 0
    from DB.plot import plot

    return _draw(options.plot, lambda path: plot(summary, path))


def _compare(options: argparse.Namespace) -> int:
    with open_database(options.db, read_only=True) as db:
        found = sorted(
            compare(db, options.progress.counting(READ)), key=lambda each: -each.compared
        )
        if not found:
            print(f"{db.name}: no answers of a shadow", file=sys.stderr)
            return 1
    if options.json:
        print_json([each.as_dict() for each in found])
    else:
        print("\n\n".join(map(comparison_as_text, found)))
    if options.plot is None:
        return 0
    from DB.plot import plot_comparison

    return _draw(options.plot, lambda path: plot_comparison(found[0], path))


def _draw(path: Path, draw: Callable[[Path], None]) -> int:
    try:
        if not path.parent.exists():
            make_durable_directory(STORAGE, path.parent)
        draw(path)
    except OSError as error:
        print(f"cannot draw {path}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"drawn: {path}", file=sys.stderr)
    return 0


def _verify(options: argparse.Namespace) -> int:
    with open_database(options.db, read_only=True) as db:
        found = db.verify(options.progress.counting(READ))
        return tell(
            found, db.name, f"{counted(found.rows, 'row')}, {found.bytes:,} bytes", options.json
        )


def _get(options: argparse.Namespace) -> int:
    with open_database(options.db, read_only=True) as db:
        row = db.get(options.id)
        if row is None:
            print(f"{db.name}: no result with the id {options.id!r}", file=sys.stderr)
            return 1
    print_json(row)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    with open_database(options.db, wait=False) as db:
        part, gone = db.rotate(options.keep)
    print(f"{part} is complete" if part else f"{db.name} holds no row yet", file=sys.stderr)
    for each in gone:
        print(f"{each} is removed", file=sys.stderr)
    return 0


def _import(options: argparse.Namespace) -> int:
    with (
        open_database(options.source, read_only=True) as source,
        open_database(options.db, wait=False) as target,
    ):
        if source.name == target.name:
            print(f"{source.name} would be taken over into itself", file=sys.stderr)
            return 2
        counts = transfer(source, target, options.progress.counting("rows taken over"))
        print(
            f"{target.name}: {counted(counts['rows'], 'result')} of {source.name}: "
            f"{counts['new']:,} new, {counts['duplicates']:,} already there, "
            f"{counted(counts['conflicts'], 'conflict')}; "
            f"{counted(counts['shadows'], 'answer')} of shadows"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

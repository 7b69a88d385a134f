"""Copies the state of a pipeline while it runs, and puts it back.

python -m Pipeline.backup make backup/2026-11-27
python -m Pipeline.backup verify backup/2026-11-27
python -m Pipeline.backup restore backup/2026-11-27

The embedded broker, the text queue, the DB in a file, and the checkpoint with --checkpoint. What a
server keeps is its own to copy.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import sys

from DB import DatabaseConfigurationError
from DurableText.command_line import run
from DurableText.installation.command_line import command_parser
from DurableText.program.option_types import folder_name, path_name
from DurableText.program.wording import counted, printable
from MessageBroker import ConfigurationError, add_broker_option
from Pipeline.backup.archive import Backup, BackupError, open_backup, problems_of
from Pipeline.backup.copying import make_backup
from Pipeline.backup.places import places_of
from Pipeline.backup.restoring import restore
from Pipeline.script import options as opt


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 if it cannot be done, 2 on wrong usage."""
    wrong_use = (ConfigurationError, DatabaseConfigurationError)
    return run(_parser(), arguments, BackupError, wrong_use)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "python -m Pipeline.backup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="make|verify|restore")
    make = commands.add_parser("make", help="copy all state into a new folder")
    make.set_defaults(run=_make)
    verify = commands.add_parser("verify", help="read a backup; exit code 1 if it is not sound")
    verify.set_defaults(run=_verify)
    back = commands.add_parser("restore", help="put it all where nothing is yet")
    back.set_defaults(run=_restore)
    for command in (make, verify, back):
        command.add_argument("folder", type=path_name, metavar="FOLDER", help="the backup")
    for command in (make, back):
        add_broker_option(command)
        command.add_argument(
            "--config-dir", type=folder_name, metavar="FOLDER", help="another folder of INI files"
        )
        opt.add_queue_option(command)
        opt.add_db_option(command)
        command.add_argument(
            "--checkpoint", type=path_name, metavar="FILE", help="this checkpoint as well"
        )
    return parser


def _make(options: argparse.Namespace) -> int:
    places = places_of(options)
    backup = make_backup(places, options.folder)
    _tell(f"{options.folder}: {_size(backup)}; all that was confirmed by {backup.began_at}")
    for each in places.elsewhere:
        _tell(f"not in it: {each}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    backup = open_backup(options.folder)
    problems = problems_of(options.folder, backup)
    for problem in problems:
        _tell(problem)
    if problems:
        return 1
    _tell(f"{options.folder}: {_size(backup)}: sound; of {backup.began_at}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    places = places_of(options)
    backup = restore(options.folder, places)
    _tell(f"restored: {_size(backup)}, as of {backup.began_at}; start the scripts")
    for each in places.elsewhere:
        _tell(f"not restored: {each}; from {backup.began_at} on it has to be read again")
    return 0


def _size(backup: Backup) -> str:
    return (
        f"{counted(len(backup.files), 'file')}, {sum(each.bytes for each in backup.files):,} bytes"
    )


def _tell(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


if __name__ == "__main__":
    sys.exit(main())

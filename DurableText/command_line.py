"""What the command lines of broker, queue and DB have in common: exit codes and printing."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from DurableText.findings import Findings
from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from DurableText.program.remedies import remedy_of
from DurableText.program.wording import in_lines
from DurableText.progress import Progress

# What a write to the output ends with that others see as an error of theirs.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

# What every command of broker, queue and DB promises.
RIGHT_AGAIN = f"{BROKEN_OFF}; nothing is lost, and the same again is right"


def default_help(variable: str, path: Path) -> str:
    """Say what counts without an option. What the variable holds is not shown: a URL may."""
    return "%%".join(f"default: {variable}, else {path}".split("%"))  # argparse fills in by %


def print_json(value: object) -> None:
    """Print `value`, indented; what is not printable by its code, as `printable` does."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    lines = text.split("\n")  # JSON has no line break inside of a text
    sys.stdout.write("\n".join(map(_printable_json, lines)) + "\n")


def _printable_json(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    failure: type[Exception],
    wrong_use: type[Exception] | tuple[type[Exception], ...] = (),
    *,
    name: str = "",
) -> int:
    """Run a command line; return its exit code: 0, 1 if something is wrong, 2 on wrong usage.

    One that takes long tells how far it is. Ctrl-C and SIGTERM break it off: 130, 143.

    Args:
        parser: sets `run` to the function of the chosen command, which takes the options, with a
            `Progress` as `progress` among them, and returns an exit code.
        arguments: None for those of this process.
        failure: the errors that the command tells of in words.
        wrong_use: those of them that another option or setting would cure.
        name: who complains.
    """

    def complain(problem: object, code: int = EXIT_FAILED) -> int:
        print(in_lines(f"{name}: {problem}" if name else str(problem)), file=sys.stderr)
        return code

    options = parser.parse_args(arguments)
    interrupts = Interrupts()
    try:
        with interrupts, Progress() as options.progress:
            code = int(options.run(options))
            sys.stdout.flush()
    except wrong_use as error:
        return complain(error, EXIT_USAGE)
    except (failure, KeyboardInterrupt) as error:
        if interrupts.got is None and not isinstance(error, KeyboardInterrupt):
            return complain(error)
        # SQLite, say, tells of the signal as of an error of its own.
        return complain(RIGHT_AGAIN, interrupts.exit_code)
    except OSError as error:
        if error.filename is None and error.errno in _FULL:  # a full disk behind `>`
            _forget_output()
            return complain(f"the output cannot be written: {error.strerror}")
        return complain(refusal_of(error))
    return code


def refusal_of(error: OSError) -> str:
    """Say what the system would not do: with which file, and why."""
    if error.filename is None and isinstance(error, FileNotFoundError) and _is_nowhere():
        return "the working directory was removed: start it in one that is there"
    what = f"{error.filename} cannot be used" if error.filename else "the system refuses"
    remedy = remedy_of(error, "")
    return f"{what}: {error.strerror or type(error).__name__}{remedy and '; '}{remedy}"


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _forget_output() -> None:
    """Let the interpreter, at its end, not complain of what it could not print either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(found: Findings, path: str | Path, counts: str, as_json: bool) -> int:
    """Print what was found in `path`; return the exit code, 1 if something is wrong.

    Args:
        found: what was found.
        path: what was read.
        counts: what is in it, in words: "1,000 records".
        as_json: print the attributes as JSON.
    """
    if as_json:
        print_json(vars(found))
    else:
        print(in_lines(*found.lines(path, counts)))
    return EXIT_FAILED if found.problem_count else EXIT_DONE

"""What the options of all command lines are parsed with: numbers, names of files, places.

Each says what it wants in words; argparse's own `type=int` would show the name of a function, and
`type=Path` makes the working directory of a name that is empty, as of a variable that is not set.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from DurableText.program.urls import scheme_of

Number = TypeVar("Number", int, float)


def number(
    text: str, parse: Callable[[str], Number], meaning: str, accept: Callable[[Number], bool]
) -> Number:
    """Parse a number that `accept` takes; `meaning` says which those are."""
    try:
        value = parse(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
    return value


def count(text: str) -> int:
    """Parse a whole number of at least 1, of a size that Python counts lengths with."""
    return number(
        text, int, "a whole number of at least 1", lambda value: 1 <= value <= sys.maxsize
    )


def count_or_none(text: str) -> int:
    """Parse a whole number of at least 0, as `count` does."""
    return number(
        text, int, "a whole number of at least 0", lambda value: 0 <= value <= sys.maxsize
    )


def positive(text: str) -> float:
    """Parse a number above 0."""
    return number(text, float, "a number above 0", lambda value: 0 < value < math.inf)


def not_negative(text: str) -> float:
    """Parse a number of at least 0."""
    return number(text, float, "a number of at least 0", lambda value: 0 <= value < math.inf)


def probability(text: str) -> float:
    """Parse a number from 0 to 1."""
    return number(text, float, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def port_number(text: str) -> int:
    """Parse a TCP port; 0 is none, or any that is free."""
    return number(text, int, "a port from 0 to 65535", lambda value: 0 <= value <= 65535)


def path_name(text: str) -> Path:
    """Parse the name of a file or folder. An empty one, of a variable that is not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


def new_folder_name(text: str) -> Path:
    """Parse the name of a folder that is there or will be made."""
    found = path_name(text)
    if found.exists() and not found.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a folder")
    return found


def nonempty(text: str) -> str:
    """Parse a name; an empty one, of a variable that is not set, is none."""
    path_name(text)
    return text


def utf8(text: str) -> str:
    """Parse a text that messages and records hold, as they hold all texts: in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def host_name(text: str) -> str:
    """Parse the name or address of a host. An empty one would mean all addresses of this one."""
    try:
        nonempty(text).encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a host") from None
    return text


def folder_name(text: str) -> Path:
    """Parse the name of a folder that is there."""
    found = path_name(text)
    if not found.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return found


def file_with_suffix(*suffixes: str) -> Callable[[str], Path]:
    """Make a parser of file names that have to end in one of `suffixes`: they choose the format."""

    def parse(text: str) -> Path:
        found = path_name(text)
        if found.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(suffixes)}")
        return found

    return parse


def place(text: str) -> str:
    """Parse the place of a queue or a DB: a URL, or the name of a file."""
    path_name(text)
    try:
        scheme_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"what it names {error}") from None
    return text

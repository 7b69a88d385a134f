"""What stands in the place of a file of the embedded broker, where it can never be used.

SQLite says of a folder, of a link and of a file of another user alike that it cannot open the
database. Waiting cures none of them, so each is told at once, with what to do.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable
from pathlib import Path

from DurableText.program.remedies import (
    in_the_way,
    is_open_to_us,
    is_read_only,
    require_path_for_sqlite,
    whose_it_is,
)
from MessageBroker.errors import BrokerUnavailableError, ConfigurationError

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# What SQLite and the turnstile put beside a database.
_ADDED, _IN_PLACE_OF_ITS_SUFFIX = ("-wal", "-shm"), (".lock", ".turn")
# Before a file counts as refused.
LOOKS = 3


def require_files(path: Path) -> None:
    """Make sure that a database and what stands beside it are files for this process, or missing.

    Raises:
        ConfigurationError: one is something else, or the rights to it are missing.
        BrokerUnavailableError: its disk takes no writes now.
        OSError: one cannot be looked at.
    """
    try:
        require_path_for_sqlite(path)
    except OSError as error:
        raise ConfigurationError(f"local broker: {in_the_way(error)}") from error
    _require_file(path)
    for each in _ADDED:
        _require_file(path.with_name(path.name + each))
    for each in _IN_PLACE_OF_ITS_SUFFIX:
        _require_file(path.with_suffix(each))


def _require_file(path: Path) -> None:
    found = _other_than(path, stat.S_ISREG)
    if found is not None:
        raise ConfigurationError(
            f"local broker: {path} {found}, where a file of the broker should be: move it away, "
            "and put the file back or start without it"
        )
    # SQLite removes the log with its last connection, and makes it anew with the next: what was
    # not there at one look may be at the next, which is no refusal.
    if not any(is_open_to_us(path) or not path.exists() for _ in range(LOOKS)):
        with contextlib.suppress(FileNotFoundError):  # as the log is, with its last connection
            raise _closed_to_us(path)


def require_folder(path: Path) -> None:
    """Make sure that `path` is a folder, or nothing yet.

    Raises:
        ConfigurationError: it is something else.
        OSError: it cannot be looked at.
    """
    found = _other_than(path, stat.S_ISDIR)
    if found is not None:
        raise ConfigurationError(
            f"local broker: {path} {found}, where a folder of the broker should be: move it away"
        )


def _other_than(path: Path, is_right: Callable[[int], bool]) -> str | None:
    """Say what stands there; None if it is right, or nothing."""
    try:
        mode = path.lstat().st_mode
        if is_right(mode):
            return None
        if stat.S_ISLNK(mode):
            target = f"is a link to {path.readlink()}"
            return target if path.exists() else f"{target}, where nothing is"
    except FileNotFoundError:
        return None
    return next((f"is {name}" for is_kind, name in _KINDS if is_kind(mode)), "is a device")


def _closed_to_us(path: Path) -> ConfigurationError | BrokerUnavailableError:
    passes = is_read_only(path)
    kind = BrokerUnavailableError if passes else ConfigurationError
    return kind(f"local broker: {whose_it_is(path)}")

"""`open_database`: which engine it is, a path or a URL says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from DB.database_interface import ResultDatabase
from DB.errors import DatabaseConfigurationError
from DB.rotation import Rotation
from DurableText.installation.extras import needs
from DurableText.installation.places import state_folder
from DurableText.program.urls import scheme_of

DEFAULT_PATH = state_folder() / "DB" / "db_for_app_2.txt"

# Names the DB where no option does.
VARIABLE = "RESULT_DB"

# `urlsplit` leaves them out, and another file would be meant.
_LEFT_OUT = "\n\r\t"


def default_database() -> str | Path:
    """Return the URL or path of the DB that nobody named: `RESULT_DB`, else the text file."""
    return os.environ.get(VARIABLE) or DEFAULT_PATH


def open_database(
    where: str | os.PathLike[str],
    *,
    wait: bool = True,
    timeout: float | None = None,
    stop: Callable[[], bool] | None = None,
    read_only: bool = False,
    rotation: Rotation | None = None,
) -> ResultDatabase:
    """Open the DB at a path or URL. An engine's client is imported only here.

    Args:
        where: a path is a text file, `postgresql://…` and `sqlite:///file` are SQL.
        wait: whether to stand by while another process holds a DB that is not shared.
        timeout: seconds to wait for it at most; None waits without limit.
        stop: asked while waiting, as `threading.Event.is_set`; True ends it.
        read_only: nothing is made, changed or waited for; the DB may come later.
        rotation: when the text begins a new part; a server has means of its own.

    Raises:
        DatabaseConfigurationError: the URL is wrong, the engine's client is not installed, or what
            it names is no DB of this program, or refuses for good.
        DatabaseUnavailableError: it is not there, or cannot be used for now.
        DatabaseLockedError: another process holds it, and the waiting is over.
    """
    try:
        scheme = scheme_of(where)
    except ValueError as error:
        raise DatabaseConfigurationError(f"the DB's place {error}") from error
    if scheme is None:
        from DB.text.database import TextDatabase
        from DB.text.reader import TextReader

        if read_only:
            return TextReader(where)
        return TextDatabase(where, wait=wait, timeout=timeout, stop=stop, rotation=rotation)
    if rotation is not None:
        raise DatabaseConfigurationError(
            f"{scheme}:// has no parts to rotate: rotation is for the text DB"
        )
    if scheme == "sqlite":
        from DB.sqlite.database import SqliteDatabase

        return SqliteDatabase(sqlite_path(str(where)), read_only=read_only)
    if scheme in ("postgresql", "postgres"):
        with needs(f"{scheme}://", DatabaseConfigurationError):
            from DB.postgres.database import PostgresDatabase
        return PostgresDatabase(str(where), read_only=read_only)
    raise DatabaseConfigurationError(
        f"the DB's URL begins with {scheme}://; a path is a text file, and postgresql:// and "
        "sqlite:/// are what is known"
    )


def sqlite_path(url: str) -> Path:
    """Return the file of a URL: `sqlite:///relative`, `sqlite:////absolute`.

    Raises:
        DatabaseConfigurationError: it names a host, options, or no file.
    """
    parts = urlsplit(url)
    path = os.fsdecode(unquote_to_bytes(os.fsencode(parts.path)))[1:]
    if any(each in url for each in _LEFT_OUT):
        raise DatabaseConfigurationError(
            "the DB's URL has a line break or a tab in its name: write %0A, %0D or %09 for it"
        )
    if parts.netloc or parts.query or parts.fragment or not path:
        raise DatabaseConfigurationError(
            "the DB's URL names no file: sqlite:///relative or sqlite:////absolute, without options"
        )
    return Path(path)

"""The place of a queue or a DB: a URL, which names a server, or a path; and no password in it."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

# What calls itself a password, among the options of a URL or of a connection string.
_NAMED_PASSWORD = re.compile(r"(?i)(password|passwd|passphrase|pwd|secret)\s*=")

# Meant as a URL or a connection string: a scheme whose slashes are missing, something before the
# scheme, a user with a password, libpq's `host=… dbname=…`.
_MEANT_AS_URL = re.compile(
    r"(?i)\s*(rediss?|unix|postgres(ql)?|sqlite)\s*:|.*://|[^@]*:.*@|\s*(host|user|dbname)\s*="
)


def scheme_of(where: str | os.PathLike[str]) -> str | None:
    """Return the scheme of a URL, in small letters; None for a path.

    What begins with `/` or `.` is a path, whatever follows.

    Raises:
        ValueError: it was meant as a URL, and is none. It is not repeated: there may be a password
            in it, and as a file's name it would stand in every line of a log.
    """
    if not isinstance(where, str):
        return None
    if match := _SCHEME.match(where):
        return match[1].lower()
    is_path = where.startswith((".", "/")) and not where.startswith("//")
    if not is_path and (_MEANT_AS_URL.match(where) or _NAMED_PASSWORD.search(where)):
        raise ValueError(
            "looks like a URL or a connection string and is none: a URL begins with its scheme, "
            "as in redis:// or postgresql://; a file that is called so is written ./NAME"
        )
    return None


def holds_password(url: str) -> bool:
    """Tell whether a password stands in a URL, in whatever place, or may."""
    rest = url.partition("://")[2]
    authority, before_query = re.split(r"[/?#]", rest, maxsplit=1)[0], rest.partition("?")[0]
    if "@" in before_query:  # a password with a slash ends what should be the authority early
        user = (authority if "@" in authority else before_query).rpartition("@")[0]
        named = ":" in unquote(user)
    else:  # or it has a question mark: then it stands where a port does
        port = authority.rpartition("]")[2].partition(":")[2]
        named = "@" in rest and bool(port) and not port.isdecimal()
    return named or bool(_NAMED_PASSWORD.search(unquote(rest)))

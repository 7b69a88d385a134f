"""Environment variables: settings that win over the INI files, and where secrets belong.

A secret comes from its variable, or from the file that `<variable>_FILE` names, as container
platforms mount them. What a variable holds is never shown, but for a path that looks like one:
people put secrets where the name of their file belongs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from MessageBroker.errors import ConfigurationError

FILE_SUFFIX = "_FILE"
# Keys and passwords are shorter; more is another file.
MAX_SECRET_BYTES = 64 * 1024
# What Linux and macOS take of a path, and of one of its names.
MAX_PATH_CHARACTERS, MAX_NAME_CHARACTERS = 1024, 255

_BEGINNING_OF_A_PATH = re.compile(r"(/|~/|\.{1,2}/)")
_NAME_OF_A_FILE = re.compile(r"[\w./ -]+\.(conf|crt|ini|jks|json|key|p12|pem|properties|txt)")


def variable(name: str) -> str | None:
    """Return the value of a variable; None if it is not set, or empty.

    Raises:
        ConfigurationError: it is no text, which no client takes.
    """
    value = os.environ.get(name)
    if not value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"the environment variable {name} is not UTF-8: set it again, in UTF-8"
        ) from None
    return value


def secret(name: str) -> str | None:
    """Return the value of a variable, or what stands in the file that `<name>_FILE` names.

    Raises:
        ConfigurationError: both are set, or the file cannot be used.
    """
    value, file = variable(name), variable(name + FILE_SUFFIX)
    if file is None:
        return value
    if value is not None:
        raise ConfigurationError(
            f"the environment variables {name} and {name}{FILE_SUFFIX} are both set: unset one"
        )
    return _read_secret(name + FILE_SUFFIX, file)


def shown_path(text: str) -> str:
    """Return a path as an error may show it: only if it looks like one."""
    if is_path(text):
        return text
    return "(a value that does not look like a path, and is not shown)"


def home_of(text: str) -> Path:
    """Make a path of a text in which `~` is the home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no home
        return Path(text)


def is_path(text: str) -> bool:
    """Tell whether a text looks like a path, or is one."""
    if not text.isprintable() or len(text) > MAX_PATH_CHARACTERS:
        return False
    if any(len(name) > MAX_NAME_CHARACTERS for name in text.split("/")):
        return False
    if _BEGINNING_OF_A_PATH.match(text) or _NAME_OF_A_FILE.fullmatch(text):
        return True
    return os.path.lexists(text)


def _read_secret(name: str, file: str) -> str:
    def refused(why: str) -> ConfigurationError:
        return ConfigurationError(
            f"the environment variable {name} names {shown_path(file)}, which {why}: it must name "
            "a file that holds the secret and nothing else"
        )

    try:
        with home_of(file).open("rb") as opened:
            data = opened.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise refused(f"cannot be read ({reason})") from None
    if len(data) > MAX_SECRET_BYTES:
        raise refused(f"has more than {MAX_SECRET_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refused("is not UTF-8") from None
    # Editors end a line where the secret has none.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise refused("is empty")
    return text

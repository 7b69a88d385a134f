"""The key file that GOOGLE_APPLICATION_CREDENTIALS names, looked at before google-auth does.

Its errors repeat what they could not read: the variable's value, or bytes of the key. Here each
kind of wrong file is told by our own words.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from DurableText.files.no_pipes import open_no_pipe
from MessageBroker.environment import shown_path
from MessageBroker.errors import AuthenticationError

KEY_FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
# Google's have 3 KB.
MAX_KEY_FILE_BYTES = 1024 * 1024
# https://google.aip.dev/auth/4110 and the following
_TYPES = frozenset(
    {
        "authorized_user",
        "external_account",
        "external_account_authorized_user",
        "gdch_service_account",
        "impersonated_service_account",
        "service_account",
    }
)
_WHAT_TO_DO = (
    "it must name the key file of a service account, or be unset for the ambient account; "
    "PUBSUB_EMULATOR_HOST names an emulator"
)


def check_key_file() -> None:
    """Look whether the variable, where it is set, names what can be a key file.

    Raises:
        AuthenticationError: it does not.
    """
    value = os.environ.get(KEY_FILE_VARIABLE)
    if not value:
        return
    if value.lstrip().startswith("{"):
        raise _refused("holds the JSON itself: write that to a file that only you may read")
    if value.startswith("~"):  # in quotes, or from an env file: no shell has replaced it
        raise _refused("begins with '~', which Google's library does not expand: write all of it")
    shown = shown_path(value)
    if shown != value:
        raise _refused("holds no path of a file (what it holds is not shown)")
    trouble = _trouble_with(value)
    if trouble:
        raise _refused(f"names {value}, which {trouble}")


def unusable_credentials(error: Exception) -> AuthenticationError:
    """Return the error of a key file that google-auth does not take, or of no account at all."""
    value = os.environ.get(KEY_FILE_VARIABLE)
    if value:
        return _refused(
            f"names {shown_path(value)}, which cannot be used ({type(error).__name__}): make a new "
            "key"
        )
    return AuthenticationError(
        f"Pub/Sub: no usable credentials from the ambient account ({type(error).__name__}): set "
        f"{KEY_FILE_VARIABLE} to the key file of a service account, or PUBSUB_EMULATOR_HOST to "
        "use an emulator"
    )


def _refused(why: str) -> AuthenticationError:
    return AuthenticationError(f"Pub/Sub: {KEY_FILE_VARIABLE} {why}: {_WHAT_TO_DO}")


def _trouble_with(value: str) -> str:
    """Say what is wrong with a file; nothing if it may be a key file."""
    path = Path(value)
    try:
        if path.is_dir():
            return "is a folder"
        # A pipe, as a shell's `<(...)` is, could be read once, and google-auth reads it after us.
        with os.fdopen(open_no_pipe(path, os.O_RDONLY, 0), "rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        return "is not there"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
    if len(data) > MAX_KEY_FILE_BYTES:
        return f"has more than {MAX_KEY_FILE_BYTES:,} bytes"
    return _trouble_with_contents(data)


def _trouble_with_contents(data: bytes) -> str:
    if not data.strip():
        return "is empty"
    try:
        contents = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except (ValueError, RecursionError):
        return "is no JSON"
    if not isinstance(contents, dict):
        return "holds no JSON object"
    if contents.get("type") not in _TYPES:
        return "holds none of the types of accounts that Google makes (`type`)"
    return ""

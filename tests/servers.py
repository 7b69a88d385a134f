"""What the real servers of the tests have in common."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port of this host on which nobody listens just now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def skip_if_missing(find: Callable[[], object], missing: type[Exception]) -> None:
    """Skip the test where a server cannot be run; fail in CI, which must skip nothing.

    Args:
        find: looks for the server's programs.
        missing: raised by `find`; its text says how to get them.
    """
    try:
        find()
    except missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))

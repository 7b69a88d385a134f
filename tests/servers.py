"""What the real servers of the tests have in common."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable

import pytest

HOST = "127.0.0.1"


# Below those that systems give to whoever connects: a server that is started again needs its port,
# and a client that tries again and again while it is away would sooner or later be given that one.
PORTS = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port of this host that nobody uses just now, nor is given by chance."""
    while True:
        port = secrets.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((HOST, port))
            _given.add(port)
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

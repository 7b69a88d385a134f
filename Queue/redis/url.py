"""The URL of a queue in Redis or Valkey, and the password that never stands in it.

    redis[s]://[user@]host[:port]/db?stream=results&consumers=one&lease=30&max_records=1000000
        &replicas=0&durability=always
    unix:///path/to/socket?db=0&…

With `rediss`, `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` name files, as redis-py calls them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from DurableText.program.urls import holds_password
from Queue.errors import QueueConfigurationError

DEFAULT_PORT = 6379
DEFAULT_STREAM = "results"

# Seconds for which a publisher that says nothing keeps what it took. Longer than a publisher is
# ever kept from renewing it, shorter than anybody wants to wait for a dead one.
DEFAULT_LEASE_SECONDS = 30.0
MIN_LEASE_SECONDS = 1.0
MAX_LEASE_SECONDS = 3600.0

# About 400 MB of memory.
DEFAULT_MAX_RECORDS = 1_000_000

# Braces would say which part of the name decides on the node of a cluster.
STREAM = re.compile(r"[A-Za-z0-9_.:-]{1,200}")

# The password, or a file that holds it. It is read for each connection: it may be changed.
PASSWORD_VARIABLE = "REDIS_PASSWORD"  # noqa: S105 (a name)

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

Value = TypeVar("Value")


@dataclass(frozen=True)
class RedisUrl:
    """Where the queue is, and how it is used.

    Attributes:
        host: None with a socket.
        port: of TCP.
        socket: the file of a unix socket, or None.
        db: the number of the database.
        user: whom the password belongs to, or None.
        tls: files by the names of `TLS_OPTIONS`; None without TLS.
        stream: the key of the stream.
        shared: `consumers=many`.
        lease: seconds.
        max_records: records in the stream beyond which a put waits.
        replicas: how many a put waits for.
        server_decides: `durability=server`: whatever the server keeps is good enough.
    """

    host: str | None
    port: int
    socket: str | None
    db: int
    user: str | None
    tls: Mapping[str, str] | None = field(repr=False)
    stream: str
    shared: bool
    lease: float
    max_records: int
    replicas: int
    server_decides: bool

    @property
    def name(self) -> str:
        """The URL for logs and errors."""
        user = f"{self.user}@" if self.user else ""
        if self.socket is not None:
            return f"unix://{user}{self.socket}?db={self.db}&stream={self.stream}"
        scheme = "redis" if self.tls is None else "rediss"
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{scheme}://{user}{host}:{self.port}/{self.db}?stream={self.stream}"


def parse(url: str) -> RedisUrl:
    """Take a URL apart. No error repeats the URL as it is: there may be a password in it.

    Raises:
        QueueConfigurationError: it is wrong, or holds a password.
    """
    if not url.isprintable():
        raise QueueConfigurationError("the queue's URL holds characters that no URL has")
    if holds_password(url):
        raise QueueConfigurationError(
            "the queue's URL holds a password, which `ps` and logs would show: take it out, and "
            f"set {PASSWORD_VARIABLE}, or {PASSWORD_VARIABLE}_FILE to a file with it (chmod 600)"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise QueueConfigurationError(
            "the queue's URL cannot be read: behind its host stands a port from 0 to 65535, or "
            f"nothing; a password belongs into {PASSWORD_VARIABLE}"
        ) from None
    scheme = parts.scheme.lower()
    options = _Options(parts)
    socket = _socket_of(parts) if scheme == "unix" else None
    host = parts.hostname
    if socket is None and not host:
        raise QueueConfigurationError("the queue's URL names no host: redis://host:6379/0")
    if parts.fragment:
        raise QueueConfigurationError("the queue's URL has a part behind #, which means nothing")
    found = RedisUrl(
        host=None if socket is not None else host,
        port=port or DEFAULT_PORT,
        socket=socket,
        db=_whole("the number of the database", 0)(options.take("db", "0"))
        if socket is not None
        else _db_of(parts),
        user=unquote(parts.username) if parts.username else None,
        tls=_tls_of(options) if scheme == "rediss" else None,
        stream=options.parsed("stream", DEFAULT_STREAM, _stream),
        shared=options.parsed("consumers", "one", _one_of("one", "many")) == "many",
        lease=options.parsed("lease", str(DEFAULT_LEASE_SECONDS), _lease),
        max_records=options.parsed(
            "max_records", str(DEFAULT_MAX_RECORDS), _whole("max_records", 1)
        ),
        replicas=options.parsed("replicas", "0", _whole("replicas", 0)),
        server_decides=options.parsed("durability", "always", _one_of("always", "server"))
        == "server",
    )
    options.refuse_the_rest()
    return found


def password() -> bytes | None:
    """Return the password that the environment names, byte by byte; None without one.

    Raises:
        QueueConfigurationError: it is named twice, or its file cannot be read.
    """
    value, file = (os.environ.get(PASSWORD_VARIABLE + end) for end in ("", "_FILE"))
    if value and file:
        raise QueueConfigurationError(
            f"both {PASSWORD_VARIABLE} and {PASSWORD_VARIABLE}_FILE are set: unset one"
        )
    if not file:
        return os.fsencode(value) if value else None
    try:
        return Path(file).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise QueueConfigurationError(
            f"{PASSWORD_VARIABLE}_FILE names {file}, which cannot be read: {error.strerror}"
        ) from error


class _Options:
    """What stands behind the URL's question mark; each may be taken once."""

    def __init__(self, parts: SplitResult) -> None:
        try:
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise QueueConfigurationError(f"the queue's URL cannot be read: {error}") from error
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name in self._values:
                raise QueueConfigurationError(f"the queue's URL says {name} twice")
            self._values[name] = value
        self._known: list[str] = []

    def take(self, name: str, default: str) -> str:
        """Return a value and forget it."""
        self._known.append(name)
        return self._values.pop(name, default)

    def parsed(self, name: str, default: str, parse: Callable[[str], Value]) -> Value:
        """Return a value as what it means."""
        return parse(self.take(name, default))

    def refuse_the_rest(self) -> None:
        """Refuse what nobody has taken: it may have been meant to matter."""
        for name in self._values:
            raise QueueConfigurationError(
                f"the queue's URL has the option {name!r}, which is unknown; there are "
                f"{', '.join(self._known)}"
            )


def _socket_of(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if not path.startswith("/") or parts.hostname:
        raise QueueConfigurationError("the queue's URL names no socket: unix:///path/to/socket")
    return path


def _db_of(parts: SplitResult) -> int:
    return _whole("the number of the database behind the host", 0)(parts.path.strip("/") or "0")


def _tls_of(options: _Options) -> dict[str, str]:
    files = {name: options.take(name, "") for name in TLS_OPTIONS}
    for name, file in files.items():
        if file and not Path(file).is_file():
            raise QueueConfigurationError(f"the queue's URL: {name} is {file}, which is no file")
    return {name: file for name, file in files.items() if file}


def _whole(what: str, least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= 1 << 53):
            raise QueueConfigurationError(
                f"the queue's URL: {what} is {text!r}; it is a whole number of at least {least}"
            )
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise QueueConfigurationError(
                f"the queue's URL says {text!r}: it is one of {', '.join(choices)}"
            )
        return text

    return parse


def _lease(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_LEASE_SECONDS <= seconds <= MAX_LEASE_SECONDS:
        raise QueueConfigurationError(
            f"the queue's URL: lease is {text!r}; it is a number of seconds from "
            f"{MIN_LEASE_SECONDS:g} to {MAX_LEASE_SECONDS:g}"
        )
    return seconds


def _stream(text: str) -> str:
    if not STREAM.fullmatch(text):
        raise QueueConfigurationError(
            f"the queue's URL names the stream {text!r}: 1 to 200 letters, digits and _.:-"
        )
    return text

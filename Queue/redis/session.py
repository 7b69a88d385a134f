"""Connections to Redis that nothing makes wait for ever, and that are made anew when they broke.

One for each thread that asks at the same time: the server syncs what they bring together. Nothing
is tried twice in here: what may have arrived is for the caller to decide about, and redis-py's own
retry would put records twice without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.retry import Retry

from DurableText.patience import Patience
from Queue.errors import QueueConfigurationError, QueueError, QueueUnavailableError
from Queue.redis.errors import may_have_arrived, refused, translated
from Queue.redis.other_way import speaks_the_other_way
from Queue.redis.scripts import Script
from Queue.redis.url import RedisUrl, password

# How long an answer may take. A server that hangs keeps its connections open, and the kernel goes
# on acknowledging for it: nobody else would end the waiting. A sync of a busy disk takes seconds.
ANSWER_SECONDS = 10.0

CONNECT_SECONDS = 5.0

Ask = Callable[..., Any]


class Session:
    """The way to one server. Any thread may use it."""

    def __init__(
        self,
        url: RedisUrl,
        keys: tuple[str, ...],
        greet: Callable[[Ask], None],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Name the server; the first question connects.

        Args:
            url: where it is.
            keys: what all scripts work on.
            greet: what to find out on each new connection; it may refuse it.
            answer_seconds: how long an answer may take.
        """
        self._url = url
        self._keys = keys
        self._greet = greet
        self._before: Patience | None = None  # of a server that took us before
        self._pool = self._make_pool(answer_seconds)

    def ask(self, *command: Any, action: str = "read") -> Any:
        """Send a command and return its answer.

        Raises:
            QueueError: see `errors`.
        """
        with self.connected(action) as ask:
            return ask(*command)

    def run(self, script: Script, *arguments: Any, action: str) -> Any:
        """Run a script, which is one command, and return its answer.

        Raises:
            QueueError: see `errors`.
        """
        with self.connected(action) as ask:
            return self.run_on(ask, script, arguments)

    def run_on(self, ask: Ask, script: Script, arguments: tuple[Any, ...]) -> Any:
        """Run a script on a connection that was lent."""
        rest = (len(self._keys), *self._keys, *arguments)
        try:
            return ask("EVALSHA", script.sha, *rest)
        except NoScriptError:  # the server has started since, or another one's did
            return ask("EVAL", script.text, *rest)

    @contextlib.contextmanager
    def connected(self, action: str) -> Iterator[Ask]:
        """Lend a connection; errors are translated, and what broke is closed."""
        connection = self._connect()
        try:
            yield _asker(connection)
        except RedisError as error:
            if isinstance(error, ReadOnlyError):  # the primary is elsewhere by now
                connection.disconnect()
                self._pool.disconnect(inuse_connections=False)
            appended = None if may_have_arrived(error) else 0
            raise translated(error, action, self._url.name, appended) from error
        except QueueError:  # all was answered, and the answer was no
            raise
        except BaseException:  # Ctrl-C: its state is unknown
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def try_out(self, seconds: float) -> None:
        """Make a connection of its own, within about so many seconds, and greet on it."""
        pool = self._make_pool(seconds)
        try:
            pool.get_connection()
        except RedisError as error:
            raise refused(error, self._url.name, self._before) from error
        finally:
            pool.disconnect()

    def hurry(self, seconds: float) -> None:
        """Let answers, and what waits for one, take no longer than `seconds` from now on."""
        before, self._pool = self._pool, self._make_pool(seconds)
        before.disconnect()

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()

    def _connect(self) -> Any:
        try:
            connection = self._pool.get_connection()
        except RedisError as error:
            found = refused(error, self._url.name, self._before)
            passing = isinstance(found, QueueUnavailableError)
            if passing and self._before is None and speaks_the_other_way(self._url):
                raise QueueConfigurationError(
                    f"the server of the queue {self._url.name} "
                    + ("wants TLS: rediss://" if self._url.tls is None else "has no TLS: redis://")
                ) from error
            raise found from error
        if self._before is None:
            self._before = Patience()
        self._before.renew()
        return connection

    def _greet_on(self, connection: Any) -> None:
        """Greet; redis-py would keep a connection that an error of ours has refused."""
        try:
            connection.on_connect()
            self._greet(_asker(connection))
        except QueueError:
            connection.disconnect()
            raise

    def _make_pool(self, answer_seconds: float) -> ConnectionPool:
        url = self._url
        named: dict[str, Any] = {"host": url.host, "port": url.port, "socket_keepalive": True}
        kind: type[Any] = Connection
        if url.socket is not None:
            named, kind = {"path": url.socket}, UnixDomainSocketConnection
        elif url.tls is not None:
            named, kind = {**named, **url.tls}, SSLConnection
        return ConnectionPool(
            connection_class=kind,
            **named,
            db=url.db,
            credential_provider=_Credentials(url.user),
            socket_timeout=answer_seconds,
            socket_connect_timeout=min(CONNECT_SECONDS, answer_seconds),
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            redis_connect_func=self._greet_on,
        )


class _Credentials(CredentialProvider):
    """User and password, read anew for each connection."""

    def __init__(self, user: str | None) -> None:
        self._user = user

    def get_credentials(self) -> Any:  # its base knows no server without a password
        word = password()
        if self._user is not None:
            return self._user, word or b""
        return (word,) if word is not None else ()


def _asker(connection: Any) -> Ask:
    def ask(*command: Any) -> Any:
        connection.send_command(*command)
        return connection.read_response()

    return ask

"""Connections to Redis that nothing makes wait for ever, and that are made anew when they broke.

One for each thread that asks at the same time: the server syncs what they bring together. Nothing
is tried twice in here: what may have arrived is for the caller to decide about, and redis-py's own
retry would put records twice without a word.
"""

from __future__ import annotations

import contextlib
import threading
import time
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
from Queue.redis.scripts import LuaScript
from Queue.redis.url import RedisUrl, password

# How long an answer may take. A server that hangs keeps its connections open, and the kernel goes
# on acknowledging for it: nobody else would end the waiting. A sync of a busy disk takes seconds.
ANSWER_SECONDS = 10.0

CONNECT_SECONDS = 5.0

# So much later than a caller's own time its answer may come: a server that works is not called one
# that hangs while it syncs what others have put.
SLACK_SECONDS = 2.0
# An answer whose time is over already may have come all the same.
LEAST_SECONDS = 0.05

Ask = Callable[..., Any]


class RedisSession:
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
        self._caller = threading.local()  # until when the thread that calls wants its answers
        self._pool = self._make_pool(answer_seconds)

    @contextlib.contextmanager
    def within(self, deadline: float | None, slack: float = SLACK_SECONDS) -> Iterator[None]:
        """Let all that this thread is answered come by `deadline`, or so many seconds later.

        What only reads is asked so, and whether the server answers at all. What appends waits as
        long as an answer may take: one that nobody waits for comes twice.
        """
        self._caller.last = None if deadline is None else deadline + slack
        try:
            yield
        finally:
            self._caller.last = None

    def require_answer(self, deadline: float) -> None:
        """Make sure that the server answers, before something is sent that may not come twice.

        Raises:
            QueueUnavailableError: it does not, in time; nothing of the caller's was sent.
        """
        with self.within(deadline):
            try:
                self.ask("PING", action="append to")
            except QueueUnavailableError as error:
                error.appended = 0
                raise

    def ask(self, *command: Any, action: str = "read") -> Any:
        """Send a command and return its answer.

        Raises:
            QueueError: see `errors`.
        """
        with self.connected(action) as ask:
            return ask(*command)

    def run(self, script: LuaScript, *arguments: Any, action: str) -> Any:
        """Run a script, which is one command, and return its answer.

        Raises:
            QueueError: see `errors`.
        """
        with self.connected(action) as ask:
            return self.run_on(ask, script, arguments)

    def run_on(self, ask: Ask, script: LuaScript, arguments: tuple[Any, ...]) -> Any:
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
            yield self._asker(connection)
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
        """Make a connection of its own, within so many seconds, and greet on it."""
        pool = self._make_pool(seconds)
        try:
            with self.within(time.monotonic() + seconds, slack=0.0):
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
            self._limit(connection)
            connection.on_connect()
            self._greet(self._asker(connection))
        except QueueError:
            connection.disconnect()
            raise

    def _asker(self, connection: Any) -> Ask:
        def ask(*command: Any) -> Any:
            self._limit(connection)
            connection.send_command(*command)
            return connection.read_response()

        return ask

    def _limit(self, connection: Any) -> None:
        """Let the next answer take as long as answers may, and as this thread's caller allows."""
        seconds = connection.socket_timeout
        last = getattr(self._caller, "last", None)
        if last is not None:
            seconds = min(seconds, max(LEAST_SECONDS, last - time.monotonic()))
        connection.update_current_socket_timeout(seconds)

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

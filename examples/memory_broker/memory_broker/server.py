"""Requests over a Unix socket: how the processes of one machine reach the broker.

A request is the name of a method of `MemoryBroker` with its arguments, an answer what it returned
or raised, both pickled: whoever may open the socket is trusted, and it lies in a folder of the
owner's.

    python -m memory_broker.server /run/user/1000/memory-broker
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import socketserver
import sys
import threading
from collections import deque
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from memory_broker.state import MemoryBroker
from MessageBroker import BrokerError, BrokerUnavailableError

# What an answer may take (s).
ANSWER_SECONDS = 5.0


class Server:
    """Answers requests until it is closed. The broker is not closed with it."""

    def __init__(self, broker: MemoryBroker, path: Path) -> None:
        """Begin to answer at the socket `path`."""
        broker.pardon()
        self._connections: set[socket.socket] = set()
        self._path = path
        self._server = _Listener(broker, path, self._connections)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="memory broker", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer nothing more, and end all connections."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, broker: MemoryBroker, path: Path, connections: set[socket.socket]) -> None:
        self.broker = broker
        self.connections = connections
        super().__init__(str(path), _Connection)


class _Connection(socketserver.StreamRequestHandler):
    server: _Listener

    def handle(self) -> None:
        self.server.connections.add(self.connection)
        try:
            with contextlib.suppress(OSError, EOFError):  # the client has gone
                while True:
                    method, arguments = pickle.load(self.rfile)  # noqa: S301
                    self.wfile.write(pickle.dumps(self._answer(method, arguments)))
        finally:
            self.server.connections.discard(self.connection)

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, BrokerError | None]:
        try:
            return getattr(self.server.broker, method)(*arguments), None
        except BrokerError as error:
            return None, error


class Client:
    """Makes requests, each over a connection that no other request uses just then."""

    def __init__(self, path: Path) -> None:
        """Connect when the first request is made."""
        self._path = path
        self._idle: deque[socket.socket] = deque()

    def call(self, method: str, *arguments: Any, timeout: float = ANSWER_SECONDS) -> Any:
        """Make a request.

        Args:
            method: of `MemoryBroker`.
            arguments: its own.
            timeout: for the answer, in seconds.

        Raises:
            BrokerUnavailableError: no answer came. The broker may have done what it was asked.
            BrokerError: what the method raised.
        """
        try:
            connection = self._connect()
            try:
                connection.settimeout(timeout)
                with connection.makefile("rwb") as stream:
                    pickle.dump((method, arguments), stream)
                    stream.flush()
                    result, error = pickle.load(stream)  # noqa: S301
            except BaseException:
                connection.close()
                raise
        except (OSError, EOFError) as failure:
            raise BrokerUnavailableError(
                f"memory broker: {self._path} does not answer ({failure!r}): start it with "
                f"`python -m memory_broker.server {self._path}`"
            ) from failure
        self._idle.append(connection)
        if error is not None:
            raise error
        return result

    def _connect(self) -> socket.socket:
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not wait([connection], 0):
                    return connection
                connection.close()  # what nobody has asked for is the end of the connection
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """End the connections that are idle."""
        while self._idle:
            self._idle.pop().close()


def main() -> None:
    """Serve until Ctrl-C."""
    server = Server(MemoryBroker(), Path(sys.argv[1]))
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.close()


if __name__ == "__main__":
    main()

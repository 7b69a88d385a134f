"""The HTTP server: uvicorn, with an end to every wait.

A connection that does not send its request, or that does not read its answer, is cut off, and so is
one of too many: the one that has been waited for longest, since a browser sends its request at
once. The server ends when it is told to, whoever is still connected.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from Pipeline.page.board import MAX_STREAMS, Board
from Pipeline.stop import ScriptError, Stop

# Browsers open up to six to one server; the streams are among them.
MAX_CONNECTIONS = 2 * MAX_STREAMS
# Within this the whole request has to be here: 7 MiB over a slow line.
REQUEST_SECONDS = 60.0
# An answer that is not read for so long is not wanted any more.
UNREAD_SECONDS = 10.0
# What is in flight when the server ends may take so long.
END_SECONDS = 3.0
KEEP_ALIVE_SECONDS = 20
# Of one request's head.
MAX_HEAD_BYTES = 32 * 1024


class BoundedConnection(H11Protocol):
    """One connection, with a limit on every wait for its other end."""

    _unsent: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    # Since when its request is waited for (the event loop's clock); None while it is answered.
    silent_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; one too many begins in place of that which has been silent for longest."""
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > MAX_CONNECTIONS:
            silent = [
                (each.silent_since, id(each), each)
                for each in self.connections
                if isinstance(each, BoundedConnection) and each.silent_since is not None
            ]
            min(silent)[-1].cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget_timers()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what came; wait no more for a request that is complete."""
        super().handle_events()
        cycle = self.cycle  # the last one, while the next request has not come whole
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._await_no_request()

    def on_response_complete(self) -> None:
        """Wait for the next request, which may be here already."""
        if not self.transport.is_closing():
            self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the other end to read; not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def cut_off(self) -> None:
        """End it at once."""
        self._await_no_request()
        self.transport.abort()

    def _await_request(self) -> None:
        self._await_no_request()
        self.silent_since = self.loop.time()
        self._unsent = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _await_no_request(self) -> None:
        self.silent_since = None
        if self._unsent is not None:
            self._unsent.cancel()

    def _forget_timers(self) -> None:
        for timer in (self._unsent, self._unread):
            if timer is not None:
                timer.cancel()


class PageServer(uvicorn.Server):
    """Serves until it is told to stop; the streams end with it."""

    def __init__(self, application: ASGIApp, board: Board, stop: Stop) -> None:
        """Prepare.

        Args:
            application: what is served.
            board: whose streams it serves.
            stop: tells when to end.
        """
        super().__init__(
            uvicorn.Config(
                application,
                http=BoundedConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(END_SECONDS),
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        self._board = board
        self._stop = stop

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until the end. The signals are the caller's."""
        asyncio.run(self._serve(sockets=[listening]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin: the board's streams run in this event loop."""
        self._board.begin()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Look whether to end."""
        return self._stop.requested or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything; whoever is left after that is cut off."""
        self._board.close()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        ScriptError: it cannot be had; the text says what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ScriptError(f"--host {host} cannot be used: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(MAX_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise ScriptError(_refusal(host, port, error)) from None
    return listening


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: end what uses it, or choose another --port"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user: choose a --port above 1023"
    return f"{host}:{port} cannot be had: {os.strerror(error.errno or 0)}"


def address_of(listening: socket.socket) -> tuple[str, int]:
    """Return the host and port on which a socket listens."""
    name: Any = listening.getsockname()
    return str(name[0]), int(name[1])

"""A TCP proxy in front of a server that cannot be restarted: it breaks and refuses connections."""

from __future__ import annotations

import contextlib
import socket
import threading

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Hands bytes on between clients and one server of this machine, in threads of its own.

    It keeps its port while it is cut off, so that clients find it again.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.host = f"{HOST}:{self.port}"

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        # Without the shutdown the thread that waits in `accept` would take one more.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _end(each)

    def mend(self) -> None:
        """Take connections again."""
        self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((HOST, port))  # it sets SO_REUSEADDR
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # it was cut
            try:
                server = socket.create_connection((HOST, self._server_port), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
                if listener is not self._listener or listener.fileno() < 0:
                    _end(client)  # it was cut meanwhile: the threads below close both
            one_way = threading.Thread(target=_hand_on, args=(client, server), daemon=True)
            other_way = threading.Thread(target=_hand_on, args=(server, client), daemon=True)
            one_way.start()
            other_way.start()
            threading.Thread(
                target=self._close_after, args=((one_way, other_way), (client, server)), daemon=True
            ).start()

    def _close_after(
        self, threads: tuple[threading.Thread, ...], sockets: tuple[socket.socket, ...]
    ) -> None:
        for thread in threads:
            thread.join()
        with self._lock:  # a number that is closed may be another's at once
            self._open -= set(sockets)
            for each in sockets:
                each.close()


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    """Copy until either side ends, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)

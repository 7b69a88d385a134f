"""`/metrics`, `/healthz` and `/readyz` over HTTP.

It must never harm the script that it tells of. So a port in use is tried again in the background,
a client that hangs is cut off, however it hangs, and of many at once the oldest goes: probes and
scrapes take milliseconds, so who has been here for longest is none of them.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger(__name__)

# Seconds after which a client is cut off, whether it sends nothing or a byte now and then.
CLIENT_SECONDS = 5.0
MAX_CLIENTS = 16
ALL_ADDRESSES, ALL_OF_IPV4 = "::", "0.0.0.0"  # noqa: S104 - only where a user asks for it
# Seconds between two tries of a port that is in use.
RETRY_SECONDS = 2.0
# Before a client is accepted again that could not be: this process has all files that it may have.
NO_FILE_SECONDS = 0.2


class MetricsServer:
    """Serves a registry until it is closed."""

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        why_not_ready: Callable[[], str | None],
        client_seconds: float = CLIENT_SECONDS,
    ) -> None:
        """Serve, now or as soon as the port is free.

        Args:
            address: host and TCP port; `0.0.0.0` or `::` are all addresses, `::` IPv4's too.
            registry: what `/metrics` shows.
            why_not_ready: what `/readyz` says; None for ready.
            client_seconds: how long a client may take for all of its request.
        """
        self._address = address
        self._client_seconds = client_seconds
        self._handler = type(
            "Handler",
            (_Handler,),
            {"registry": registry, "why_not_ready": staticmethod(why_not_ready)},
        )
        self._closed = threading.Event()
        self._server = self._bind(first=True)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port."""
        self._closed.set()
        server = self._server
        if server is not None:
            server.shutdown()
        self._thread.join(CLIENT_SECONDS)

    def _bind(self, *, first: bool = False) -> _Server | None:
        try:
            return _Server(self._address, self._handler, self._client_seconds)
        except OSError as error:
            if first:
                logger.warning(
                    "no metrics: port %d cannot be had on %s (%s): end what uses it, or choose "
                    "another --metrics-port or --metrics-host; everything else goes on, and it "
                    "is tried again",
                    self._address[1],
                    self._address[0],
                    error.strerror or error,
                )
            return None

    def _serve(self) -> None:
        retried = False
        while self._server is None:
            retried = True
            if self._closed.wait(RETRY_SECONDS):
                return
            self._server = self._bind()
        if retried:
            logger.info("metrics are served on port %d now", self._address[1])
        with self._server as server:
            if not self._closed.is_set():
                server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the script's end

    def __init__(
        self, address: tuple[str, int], handler: type[_Handler], client_seconds: float
    ) -> None:
        self._client_seconds = client_seconds
        self._lock = threading.Lock()
        self._served: dict[socket.socket, threading.Timer] = {}  # the oldest first
        host, port = address
        if host == ALL_ADDRESSES and not socket.has_dualstack_ipv6():
            host = ALL_OF_IPV4  # a machine without IPv6
        [(family, *_, bound), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family = family
        super().__init__((str(bound[0]), int(bound[1])), handler)

    def server_bind(self) -> None:
        """Bind, without the look-up of this host's name that the base class makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a client; where no file can be opened any more, after a pause, and no busy one."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(NO_FILE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own, in place of the oldest if too many are served already."""
        timer = threading.Timer(self._client_seconds, _cut_off, [request])
        timer.daemon = True
        with self._lock:
            if len(self._served) >= MAX_CLIENTS:
                oldest = next(iter(self._served))
                self._served.pop(oldest).cancel()
                _cut_off(oldest)
            self._served[request] = timer
        timer.start()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                timer = self._served.pop(request, None)
            if timer is not None:  # else it had to give way
                timer.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Let a client that went away in mid-answer be its own affair."""
        logger.debug("a client of the metrics failed: %s", sys.exc_info()[1])


def _cut_off(request: socket.socket) -> None:
    """Let the thread that serves a client meet the end of what it sends."""
    with contextlib.suppress(OSError):  # it has just ended by itself
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection."""

    registry: CollectorRegistry
    why_not_ready: Callable[[], str | None]

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send_metrics()
        elif path == "/healthz":
            self._send(200, b"alive\n")
        elif path == "/readyz":
            reason = self.why_not_ready()
            self._send(503 if reason else 200, f"{reason or 'ready'}\n".encode())
        else:
            self._send(404, b"there are /metrics, /healthz and /readyz\n")

    do_HEAD = do_GET  # noqa: N815 - the base class wants this name

    def _send_metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.registry)
        headers = {}
        if gzip_accepted(self.headers.get("Accept-Encoding", "")):
            body, headers = gzip.compress(body, 1), {"Content-Encoding": "gzip"}
        self._send(200, body, content_type, headers)

    def _send(
        self,
        status: int,
        body: bytes,
        content_type: str = "text/plain; charset=utf-8",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
        """Scrapes are not worth a line."""
        logger.debug(format, *arguments)

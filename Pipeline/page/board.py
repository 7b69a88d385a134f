"""What every open browser shows: the latest word on each thing, and the streams that carry it.

A stream that is behind, or whose browser has stopped reading, does not get a longer and longer
queue: it gets what is new when it reads again, and of each thing only the last. So memory is
bounded by the number of things, whatever the browsers do.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import Any

import orjson
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

# Browsers with an open stream, at most: a tab has one.
MAX_STREAMS = 32
# What comes within this time is sent together.
GATHER_SECONDS = 0.05
# Without anything new a comment is sent: whoever is gone is noticed, and proxies keep it open.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"
# How soon a browser asks again when the stream has broken (ms).
RETRY = b"retry: 1000\n\n"


class Board:
    """The latest word on each thing. `post` and `remove` are for any thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._version = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[asyncio.Event] = set()
        self._woken = False
        self.closed = False

    def begin(self) -> None:
        """Serve streams, from the event loop that calls this."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """End all streams. Called by the event loop."""
        self.closed = True
        self._wake()

    @property
    def streams(self) -> int:
        """How many browsers are listening."""
        return len(self._streams)

    def post(self, kind: str, value: dict[str, Any], key: str = "") -> None:
        """Say the latest on a thing.

        Args:
            kind: the name of the event in the browser.
            value: JSON-able.
            key: which one of its kind.
        """
        data = orjson.dumps(value)
        with self._lock:
            self._version += 1
            name = f"{kind}/{key}"
            self._entries[name] = self._version, b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
            self._entries.move_to_end(name)
            if self._woken or self._loop is None or self.closed:
                return
            self._woken = True
        self._loop.call_soon_threadsafe(self._wake)

    def remove(self, kind: str, key: str) -> None:
        """Forget a thing: browsers that come later do not hear of it."""
        with self._lock:
            self._entries.pop(f"{kind}/{key}", None)

    def since(self, version: int) -> tuple[int, bytes]:
        """Return what is newer than a version, and up to which one it goes."""
        newer: list[bytes] = []
        with self._lock:
            for number, data in reversed(self._entries.values()):
                if number <= version:
                    break
                newer.append(data)
            return self._version, b"".join(reversed(newer))

    def _wake(self) -> None:
        with self._lock:
            self._woken = False
        for event in self._streams:
            event.set()

    # ------------------------------------------------------------------ streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream of events, as an ASGI application, until either side ends it.

        Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
        """
        if self.streams >= MAX_STREAMS:
            why = f"{MAX_STREAMS} browsers are listening already: close some"
            await JSONResponse({"error": why}, 503)(scope, receive, send)
            return
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        news = asyncio.Event()
        self._streams.add(news)
        gone = asyncio.ensure_future(_until_gone(receive, news))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": RETRY, "more_body": True})
            await self._send_news(news, gone, send)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._streams.discard(news)

    async def _send_news(self, news: asyncio.Event, gone: asyncio.Task[None], send: Send) -> None:
        version = 0
        while not (self.closed or gone.done()):
            version, body = self.since(version)
            if body:
                # Waits while the browser does not read; `server` cuts off those that never do.
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
            news.clear()


async def _until_gone(receive: Receive, news: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()

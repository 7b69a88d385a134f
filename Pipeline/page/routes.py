"""What the page answers to: its files, the stream, and a few questions and commands in JSON."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from DB import DatabaseError
from DurableText.program.wording import printable
from MessageBroker import BrokerError
from MessageBroker.dead_letters import Selection
from MessageBroker.limits import MAX_MESSAGE_BYTES, cut
from Modelling.images.headers import AVIF, BMP, GIF, JPEG, PNG, WEBP, format_of
from Pipeline.page.board import Board
from Pipeline.page.guard import Guard, refused
from Pipeline.page.journeys import Journeys, TooManyError
from Pipeline.page.letters import LetterDesk
from Pipeline.page.live import Live
from Pipeline.page.pictures import Pictures
from Pipeline.page.results import DEFAULT_ROWS, MAX_ROWS, Query, Results
from Pipeline.page.shelf import Filter, NoLetterError

STATIC = Path(__file__).parent / "static"
# Of a command in JSON: the ids of all letters that are shown.
MAX_COMMAND_BYTES = 1 << 20
# Bodies of images that are read at once, each up to what a message may have.
MAX_UPLOADS = 4
# Threads for what waits for disks and brokers, and for pictures.
MAX_THREADS = 12
MAX_DECODING = 4
# What browsers show themselves, in an `img`; nothing of it runs.
SHOWN_BY_BROWSERS = {
    PNG: "image/png", JPEG: "image/jpeg", GIF: "image/gif", WEBP: "image/webp",
    BMP: "image/bmp", AVIF: "image/avif",
}  # fmt: skip
UNKNOWN_TYPE = "application/octet-stream"
SECONDS_A_MINUTE = 60.0


class WrongRequestError(ValueError):
    """Raised when a request says something that it must not."""


@dataclass
class PageParts:
    """What the routes ask."""

    board: Board
    journeys: Journeys
    letters: LetterDesk
    live: Live
    pictures: Pictures
    results: Results


def application(parts: PageParts, port: int, token: str | None) -> Guard:
    """Put everything together: the routes, and the guard before them."""
    routes = Routes(parts)
    starlette = Starlette(
        routes=[
            Route("/", partial(routes.document, "index.html")),
            Route("/login", partial(routes.document, "login.html"), methods=["GET"]),
            Route("/login", routes.login, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/stream", parts.board),
            Route("/api/images", routes.publish, methods=["POST"]),
            Route("/api/picture", routes.picture),
            Route("/api/curves", routes.curves),
            Route("/api/letters", routes.list_letters),
            Route("/api/letters/read", routes.read_letters, methods=["POST"]),
            Route("/api/letters/settle", routes.settle_letters, methods=["POST"]),
            Route("/api/letters/outcomes", routes.outcomes),
            Route("/api/letters/one", routes.letter),
            Route("/api/letters/picture", routes.letter_picture),
            Route("/api/letters/body", routes.letter_body),
            Route("/api/results", routes.list_results),
            Route("/api/summary", routes.summary),
        ],
        exception_handlers={
            WrongRequestError: _told(400),
            NoLetterError: _told(404),
            TooManyError: _told(503),
            BrokerError: _told(503),
            DatabaseError: _told(503),
        },
    )
    routes.guard = Guard(starlette, port, token)
    return routes.guard


def _told(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def tell(_request: Request, error: Exception) -> Response:
        return refused(status, printable(str(error)))

    return tell


class Routes:
    """The answers."""

    guard: Guard

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)
        # Apart: pictures that take long keep each other waiting, and nothing else.
        self._decoding = CapacityLimiter(MAX_DECODING)
        self._waiting = CapacityLimiter(MAX_THREADS)

    async def _ask(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Do what waits for a disk or a broker, while others are served."""
        asking = partial(work, *arguments, **named)
        return await anyio.to_thread.run_sync(asking, limiter=self._waiting)

    async def _decode(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Make a picture, while others are served."""
        return await anyio.to_thread.run_sync(partial(work, *arguments), limiter=self._decoding)

    # ------------------------------------------------------------------ the page itself

    async def document(self, name: str, _request: Request) -> Response:
        """Answer with the page, and in it what its POSTs have to carry."""
        text = (STATIC / name).read_text().replace("{forgery}", self.guard.forgery)
        return Response(text, media_type="text/html")

    async def login(self, request: Request) -> Response:
        """Take the token."""
        command = await _command(request)
        token = command.get("token")
        return self.guard.admit(token if isinstance(token, str) else "")

    async def curves(self, _request: Request) -> Response:
        """Tell what the last minutes were like."""
        return JSONResponse({"curves": self._parts.live.curves()})

    # ------------------------------------------------------------------ images

    async def publish(self, request: Request) -> Response:
        """Publish the body as an image, and follow it."""
        name = cut(request.query_params.get("name", "").strip() or "drawing")
        expected = request.query_params.get("expected", "").strip()
        kind = request.headers.get("content-type", UNKNOWN_TYPE)
        if self._uploads.locked():
            return refused(503, f"{MAX_UPLOADS} images are being sent already: try again")
        async with self._uploads:
            data = await _body(request, MAX_MESSAGE_BYTES)
            if not data:
                raise WrongRequestError("the image has no bytes")
            image_id = await self._ask(
                self._parts.journeys.publish,
                data,
                name=name,
                content_type=cut(kind),
                expected_label=cut(expected) if expected else None,
            )
        self._parts.pictures.keep(image_id, data)
        return JSONResponse({"id": image_id}, 202)

    async def picture(self, request: Request) -> Response:
        """Show an image that was published lately: small, or as the model saw it."""
        makers = {"small": self._parts.pictures.small, "seen": self._parts.pictures.seen}
        maker = makers.get(request.query_params.get("kind", "small"))
        image_id = request.query_params.get("id", "")
        return _png(await self._decode(maker, image_id) if maker else None)

    # ------------------------------------------------------------------ dead letters

    async def list_letters(self, request: Request) -> Response:
        """Tell of a page of the letters that were read."""
        which = _filter(request.query_params)
        offset = int(_number(request.query_params, "offset", 0, 0, 10**9))
        return JSONResponse(await self._ask(self._parts.letters.listing, which, offset))

    async def read_letters(self, _request: Request) -> Response:
        """Read them again."""
        self._parts.letters.read()
        return JSONResponse({"reading": True}, 202)

    async def settle_letters(self, request: Request) -> Response:
        """Replay or purge: by their ids, of a reason, those that a filter shows, or all."""
        command = await _command(request)
        action = command.get("action")
        if action not in ("replay", "purge"):
            raise WrongRequestError("the action is replay or purge")
        self._parts.letters.settle(action, self._selection(command))
        return JSONResponse({"doing": action}, 202)

    def _selection(self, command: dict[str, Any]) -> Selection:
        if command.get("all") is True:
            return Selection()
        ids = command.get("ids")
        if isinstance(ids, list) and ids and all(isinstance(each, str) for each in ids):
            return Selection(ids=frozenset(ids))
        reason = command.get("reason")
        if isinstance(reason, str) and command.get("minutes") is None:
            return Selection(reasons=frozenset([reason]))
        which = _filter(command)
        shown = self._parts.letters.ids(which) if which != Filter() else []
        if not shown:
            raise WrongRequestError("no letter that was read is meant")
        return Selection(ids=frozenset(shown))

    async def outcomes(self, _request: Request) -> Response:
        """Tell what became of those that were settled."""
        return JSONResponse({"outcomes": self._parts.letters.outcomes()})

    async def letter(self, request: Request) -> Response:
        """Tell of one letter all that it says of itself."""
        return JSONResponse(self._parts.letters.look_at(request.query_params.get("id", "")))

    async def letter_picture(self, request: Request) -> Response:
        """Show a letter: small, or as it is where a browser shows it and we could decode it too."""
        letter = self._parts.letters.letter(request.query_params.get("id", ""))
        data = letter.data
        small = await self._decode(self._parts.pictures.of_letter, letter.id, data)
        kind = SHOWN_BY_BROWSERS.get(format_of(data) or "")
        if small is not None and kind is not None and "whole" in request.query_params:
            return Response(data, media_type=kind)
        return _png(small)

    async def letter_body(self, request: Request) -> Response:
        """Give its original bytes, to be saved: never to be shown."""
        data = await self._ask(self._parts.letters.body_of, request.query_params.get("id", ""))
        headers = {"content-disposition": 'attachment; filename="dead-letter.bin"'}
        return Response(data, media_type=UNKNOWN_TYPE, headers=headers)

    # ------------------------------------------------------------------ results

    async def list_results(self, request: Request) -> Response:
        """Tell of the newest results that are wanted, or the one with an id."""
        asked = request.query_params
        if asked.get("id"):
            row = await self._ask(self._parts.results.get, asked["id"].strip())
            return JSONResponse({"results": [] if row is None else [row]})
        query = Query(
            label=asked.get("label") or None,
            model=asked.get("model") or None,
            below=_number(asked, "below", 0, 0, 1) if asked.get("below") else None,
            wrong=asked.get("wrong") == "1",
            least_sure_first=asked.get("order") == "least-sure",
            count=int(_number(asked, "count", DEFAULT_ROWS, 1, MAX_ROWS)),
        )
        return JSONResponse(await self._ask(self._parts.results.newest, query))

    async def summary(self, _request: Request) -> Response:
        """Tell the summary's figures, as they were counted last."""
        return JSONResponse(self._parts.results.summary())


async def _body(request: Request, most: int) -> bytes:
    """Read a request's body.

    Raises:
        WrongRequestError: it has more than `most` bytes; no more than that was read.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise WrongRequestError(f"more than the {most:,} bytes that this may have")
        parts.append(part)
    return b"".join(parts)


async def _command(request: Request) -> dict[str, Any]:
    try:
        command = orjson.loads(await _body(request, MAX_COMMAND_BYTES))
    except orjson.JSONDecodeError:
        raise WrongRequestError("the request is no JSON") from None
    if not isinstance(command, dict):
        raise WrongRequestError("the request is no JSON object")
    return command


def _filter(asked: Any) -> Filter:
    reason = asked.get("reason")
    minutes = _number(asked, "minutes", 0, 0, 10**9)
    since = time.time() - minutes * SECONDS_A_MINUTE if minutes else None
    return Filter(reason if isinstance(reason, str) and reason else None, since)


def _number(asked: Any, name: str, default: float, least: float, most: float) -> float:
    text = asked.get(name)
    if text in (None, ""):
        return default
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not least <= value <= most:
        raise WrongRequestError(f"{name} is a number from {least:g} to {most:g}")
    return value


def _png(data: bytes | None) -> Response:
    if data is None:
        return refused(404, "there is no picture of it")
    return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=300"})

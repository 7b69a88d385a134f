"""What stands before every request: who asks, from where, and what the answer may do.

The page publishes and purges, so what a browser sends must come from the page itself, and not from
another one that is open in the same browser:

- *Host.* On 127.0.0.1 a request has to name this machine: a stranger's name that was made to point
  here (DNS rebinding) is refused. Elsewhere the token is what protects.
- *Token.* On any other address than this machine's a token is needed, compared in constant time and
  kept by the browser in a cookie that no script reads and no other site sends.
- *Forgery.* A POST has to carry what only the page itself can know, and to come from its origin.
- *Policy.* Scripts and styles come from this server's files alone, and nothing is made of text.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORGERY_HEADER = "x-page-forgery"
METHODS = ("GET", "HEAD", "POST")
# What whoever has no token yet needs to say it.
OPEN_PATHS = ("/login",)
OPEN_FOLDER = "/static/"
# The cookie lasts as long as the browser runs, and at most a month.
COOKIE_SECONDS = 30 * 24 * 3600
THIS_MACHINE = ("localhost", "localhost.")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Wraps the application. Secrets are made when the server starts."""

    def __init__(self, application: ASGIApp, port: int, token: str | None = None) -> None:
        """Stand before an application.

        Args:
            application: what is guarded.
            port: on which it is served.
            token: what has to be known; None where only this machine can reach it.
        """
        self._application = application
        self._token = token
        # Cookies know no ports: two pages on one machine must not take each other's.
        self._cookie = f"page_{port}"
        self.forgery = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it; either way the answer has its policy."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        await (self._refusal(request) or self._application)(scope, receive, _with_policy(send))

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if request.method not in METHODS:
            return refused(405, "this page knows GET and POST only")
        if self._token is None and not names_this_machine(host):
            return refused(403, "this page answers on this machine's own names only")
        if not self._is_known(request) and not _is_open(request.url.path):
            return self._ask_for_token(request)
        if request.method == "POST" and not self._is_from_the_page(request.headers, host):
            return refused(403, "this request does not come from the page itself: load it again")
        return None

    def _is_from_the_page(self, headers: Headers, host: str) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin") or (origin and urlsplit(origin).netloc != host):
            return False
        return _equal(headers.get(FORGERY_HEADER, ""), self.forgery)

    # ------------------------------------------------------------------ the token

    def _is_known(self, request: Request) -> bool:
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self._token):
            return True
        return _equal(request.cookies.get(self._cookie, ""), self._cookie_value())

    def _cookie_value(self) -> str:
        """Return what the cookie says: it proves the token, and does not tell it."""
        assert self._token is not None
        return hmac.new(self._token.encode(), b"page session", sha256).hexdigest()

    def _ask_for_token(self, request: Request) -> Response:
        if request.url.path == "/":
            return Response(status_code=303, headers={"location": "/login"})
        return refused(401, "the token is missing: load the page, and say it")

    def admit(self, token: str) -> Response:
        """Give a browser its cookie, if it knows the token."""
        if self._token is None or not _equal(token, self._token):
            return refused(401, "that is not the token")
        answer = JSONResponse({"known": True})
        answer.set_cookie(
            self._cookie,
            self._cookie_value(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
        )
        return answer


def refused(status: int, why: str) -> JSONResponse:
    """Answer with an error, in words."""
    return JSONResponse({"error": why}, status)


def names_this_machine(host: str) -> bool:
    """Tell whether a `Host` header means this machine by an address or name that nobody can fake.

    Whatever the port: a tunnel may end at another one.

    Source: RFC 6761 section 6.3 on `localhost`.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?", host)
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    if name in THIS_MACHINE:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _equal(given: str, wanted: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _with_policy(send: Send) -> Send:
    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_policy

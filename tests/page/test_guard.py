"""Who may ask, from where, how much, and what the answer may do."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect
from starlette.types import Receive, Scope, Send

from MessageBroker.limits import MAX_MESSAGE_BYTES
from Pipeline.page import server as server_module
from Pipeline.page.board import Board
from Pipeline.page.guard import names_this_machine
from Pipeline.stop import Stop
from tests.page.site import Site
from tests.pipeline.runner import ROOT, wait_until

TOKEN = "a token that is long enough"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:9000", True),
        ("LOCALHOST", True),
        ("[::1]:8080", True),
        ("127.1.2.3", True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("0.0.0.0:8080", False),
        ("10.0.0.1", False),
        ("", False),
        ("127.0.0.1@evil.example", False),
        ("evil.example\t127.0.0.1", False),
    ],
)
def test_only_names_that_mean_this_machine_are_answered(host: str, answered: bool) -> None:
    assert names_this_machine(host) is answered


def test_what_does_not_come_from_the_page_is_refused(site: Site) -> None:
    site.start()
    here = f"127.0.0.1:{site.port}"
    command = "/api/letters/read", b"{}"
    good = {"x-page-forgery": site.forgery}
    refused: list[dict[str, str]] = [
        {},
        {"x-page-forgery": "guessed"},
        {**good, "host": f"evil.example:{site.port}"},
        {**good, "origin": "http://evil.example"},
        {**good, "origin": "null"},
        {**good, "origin": f"http://localhost:{site.port}"},  # another origin than the host's
        {**good, "sec-fetch-site": "cross-site"},
        {**good, "sec-fetch-site": "same-site"},
    ]
    for headers in refused:
        status, _, body = site.request("POST", *command, headers)
        assert status == 403, (headers, body)
    assert site.request("GET", "/", headers={"host": "evil.example"})[0] == 403
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert site.request(method, "/api/letters/read", headers=good)[0] == 405
    told = {**good, "origin": f"http://{here}", "sec-fetch-site": "same-origin"}
    assert site.request("POST", *command, told)[0] == 202

    for path in ("/", "/static/main.js", "/api/results", "/nothing", "/static/../../guard.py"):
        _, headers_of, _ = site.request("GET", path)
        policy = headers_of["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers_of["x-content-type-options"] == "nosniff"
    html = site.request("GET", "/")[2].decode()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", html)


def test_others_need_the_token(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    site.start("--host", "0.0.0.0", "--token-file", file)
    assert TOKEN not in site.server.output
    assert site.request("GET", "/")[0] == 303
    for path in ("/api/results", "/api/stream", "/api/letters", "/api/curves"):
        assert site.request("GET", path)[0] == 401
    assert site.request("GET", "/static/style.css")[0] == 200
    wrong = {"cookie": f"page_{site.port}={TOKEN}"}
    assert site.request("GET", "/api/results", headers=wrong)[0] == 401, "the cookie tells nothing"
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert site.request("GET", "/api/curves", headers=bearer)[0] == 200

    page = site.request("GET", "/login")[2].decode()
    forgery = re.search('name="forgery" content="([^"]+)"', page)
    assert forgery is not None
    told = {"x-page-forgery": forgery[1]}
    assert site.request("POST", "/login", b'{"token": "guessed"}', told)[0] == 401
    assert site.request("POST", "/login", b'{"token": "%s"}' % TOKEN.encode())[0] == 403
    status, headers, _ = site.request("POST", "/login", b'{"token": "%s"}' % TOKEN.encode(), told)
    assert status == 200
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    known = {"cookie": cookie.partition(";")[0]}
    assert site.request("GET", "/api/curves", headers=known)[0] == 200
    assert site.request("POST", "/api/letters/read", b"{}", known)[0] == 403, "and no POST by it"


def test_a_wrong_token_is_told_and_the_right_one_enters(seen: Site, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    seen.start("--host", "0.0.0.0", "--token-file", file)
    page = seen.open()
    for token in ("guessed", TOKEN):
        page.fill("#token", token)
        page.get_by_role("button", name="Enter").click()
        if token != TOKEN:
            expect(page.locator("#refusal")).to_have_text("that is not the token")
    expect(page.locator("#view-draw")).to_be_visible()


def test_a_token_that_is_made_is_printed_once_and_differs(site: Site) -> None:
    made = set()
    for _ in range(2):
        site.start("--host", "0.0.0.0")
        made.add(re.findall(r"/login#(\S+)", site.server.output)[0])
        site.server.terminate()
    assert len(made) == 2
    assert all(len(each) >= 32 for each in made)


def test_what_is_sent_is_bounded(site: Site) -> None:
    site.start()
    for body in (bytes(MAX_MESSAGE_BYTES + 1), b""):
        status, told = site.post("/api/images?name=x", body)
        assert status == 400, told
    assert site.post("/api/letters/settle", b'"' + bytes(1 << 20))[0] == 400
    unclear = {"action": "purge"}, {"action": "purge", "ids": [1]}, {"action": "replay", "all": 1}
    for command in ([], {}, {"action": "drop"}, *unclear):
        assert site.post("/api/letters/settle", command)[0] == 400, command
    for path in ("/api/results?below=2", "/api/results?count=x", "/api/letters?offset=-1",
                 "/api/letters?minutes=nan"):  # fmt: skip
        assert site.request("GET", path)[0] == 400, path
    for path in ("/api/letters/one?id=none", "/api/letters/body", "/api/picture?id=none&kind=evil"):
        assert site.request("GET", path)[0] == 404, path


def streams(site: Site, count: int) -> list[socket.socket]:
    opened = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        connection.sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        opened.append(connection)
    return opened


def test_streams_and_connections_are_limited_and_end_with_the_server(site: Site) -> None:
    site.start()
    opened = streams(site, 40)
    heads = [each.recv(20) for each in opened]
    assert heads.count(b"HTTP/1.1 200 OK\r\ndat"[:20]) == 32
    assert sum(head.startswith(b"HTTP/1.1 503") for head in heads) == 8
    # 64 connections at most: one too many takes the place of who says nothing for longest.
    more = [socket.create_connection(("127.0.0.1", site.port), timeout=10) for _ in range(80)]
    assert is_cut_off(more[0])
    more[-1].sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert more[-1].recv(20).startswith(b"HTTP/1.1 503")
    opened[0].settimeout(0.1)
    with pytest.raises(TimeoutError):  # the streams go on
        while opened[0].recv(1 << 16):
            pass
    for each in (*opened[32:], *more):
        each.close()

    began = time.monotonic()
    site.server.terminate()
    assert time.monotonic() - began < 10, "it ends, whoever is still listening"
    for each in opened[:32]:
        each.close()


def is_cut_off(connection: socket.socket) -> bool:
    """Tell whether a connection ends, on which nothing was said."""
    with contextlib.suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


async def ok(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer each request."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


def test_a_second_request_that_drips_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.5)
    stop = Stop()
    with contextlib.closing(server_module.listen("127.0.0.1", 0)) as listening:
        address = server_module.address_of(listening)
        serving = threading.Thread(
            target=server_module.PageServer(ok, Board(), stop).serve_on, args=[listening]
        )
        serving.start()
        with socket.create_connection(address, timeout=0.1) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: client.recv(1000).endswith(b"ok"), "the first is answered")

            def drip() -> bool:
                try:
                    client.sendall(b"G")
                    return client.recv(1) == b""
                except TimeoutError:
                    return False
                except ConnectionError:
                    return True

            wait_until(drip, "the second one is cut off", 20)
        stop.request()
        serving.join(20)
        assert not serving.is_alive()


def test_a_browser_that_stops_reading_is_cut_off_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "UNREAD_SECONDS", 0.5)
    board, stop = Board(), Stop()
    with contextlib.closing(server_module.listen("127.0.0.1", 0)) as listening:
        port = server_module.address_of(listening)[1]
        serving = threading.Thread(
            target=server_module.PageServer(board, board, stop).serve_on, args=[listening]
        )
        serving.start()
        opened = []
        for _ in range(2):
            each = socket.create_connection(("127.0.0.1", port), timeout=10)
            each.sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            opened.append(each)
        wait_until(lambda: board.streams == 2, "both listen")

        def only_one_listens() -> bool:
            board.post("live", {"much": "x" * 1_000_000})  # always the same thing: no queue grows
            opened[1].recv(1 << 20)
            return board.streams == 1

        wait_until(only_one_listens, "the one that reads nothing is cut off")
        assert opened[1].recv(1 << 20)
        stop.request()
        serving.join(20)
        assert not serving.is_alive()
        for each in opened:
            each.close()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--port", "70000"], 2, "a port from 0 to 65535"),
        (["--host", "no.such.host.invalid"], 1, "--host no.such.host.invalid cannot be used"),
        (["--token-file", "/dev/null"], 2, "one line of 16 to 4,096 characters"),
        (["--token-file", "/dev/zero"], 2, "one line of 16 to 4,096 characters"),
        (["--token-file", "/nothing/there"], 2, "cannot be read: No such file"),
        (["--broker", "carrier-pigeon"], 2, "invalid choice"),
        (["--db", "mysql://host/db"], 2, "mysql://"),
        (["nowhere"], 2, "neither HOST:PORT nor PORT"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments: list[str], code: int, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "Pipeline.page", *arguments],
        cwd=ROOT, env={**os.environ, "MESSAGE_BROKER": "local"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "Pipeline.page", "--port", str(port)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr

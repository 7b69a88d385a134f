"""A page with its pipeline, as a user has them: real processes, a real browser."""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.pipeline.runner import ROOT, Pipeline, Script, wait_until
from tests.servers import free_port

Stroke = Sequence[tuple[float, float]]

# A seven, as a hand draws it, on a pad of 1 by 1.
SEVEN: list[Stroke] = [[(0.25, 0.22), (0.5, 0.21), (0.75, 0.22), (0.6, 0.5), (0.45, 0.82)]]
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


class Site:
    """A pipeline and its page."""

    def __init__(self, pipeline: Pipeline, chromium: Browser | None = None) -> None:
        self.pipeline = pipeline
        self._chromium = chromium
        self.port = 0
        self.complaints: list[str] = []
        self.ports = {
            name: free_port() for name in ("app_1", "model_server_sub", "model_server_pub", "app_2")
        }
        self.server: Script

    # ------------------------------------------------------------------ the processes

    def start(self, *arguments: object, **environment: str) -> Script:
        """Start the page; a port that is free, unless the arguments say which."""
        pipeline = self.pipeline
        told = ["--db", pipeline.db, *self.ports.values(), *arguments]
        if "--port" not in arguments:
            told += ["--port", self.port]  # the same again after a restart
        self.server = pipeline.start("page", *told, PYTHONPATH=str(ROOT), **environment).ready()
        self.port = int(re.findall(r"ready: http://[^/]*:(\d+)/", self.server.output)[0])
        return self.server

    def start_scripts(self, *names: str) -> None:
        """Start scripts of the pipeline, all three consumers without a name."""
        for name in names or ("app_2", "model_server_pub", "model_server_sub"):
            self.start_script(name).ready()

    def start_script(self, name: str, *arguments: object) -> Script:
        own = {
            "model_server_sub": ["--queue", self.pipeline.queue, "--top", 10],
            "model_server_pub": ["--queue", self.pipeline.queue],
            "app_2": ["--db", self.pipeline.db],
            "app_1": ["--ids", self.pipeline.ids_file],
        }[name]
        return self.pipeline.start(name, *own, "--metrics-port", self.ports[name], *arguments)

    # ------------------------------------------------------------------ a browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def open(self, view: str = "draw", **context: Any) -> Page:
        """Open the page in a window of its own; whatever it complains of fails the test."""
        assert self._chromium is not None
        window = self._chromium.new_context(**context)
        page = window.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        page.goto(f"{self.url}#{view}")
        return page

    def _note(self, message: Any) -> None:
        # A picture that is not there is told by the browser as well as by the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    # ------------------------------------------------------------------ without a browser

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    @property
    def forgery(self) -> str:
        """What a POST has to carry, as the page itself knows it."""
        found = re.search(rb'name="forgery" content="([^"]+)"', self.request("GET", "/")[2])
        assert found is not None
        return found[1].decode()

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"x-page-forgery": self.forgery, **headers}
        status, _, answer = self.request("POST", path, data, told)
        return status, json.loads(answer)

    def read_letters(self) -> dict[str, Any]:
        """Have the dead letters read, and return the first of them."""
        before = self.get("/api/letters")["read_at"]
        assert self.post("/api/letters/read", {})[0] == 202
        wait_until(lambda: self.get("/api/letters")["read_at"] != before, "the letters are read")
        return self.get("/api/letters")


def draw(page: Page, strokes: Sequence[Stroke]) -> None:
    """Draw with the mouse, as a person does it."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


class PagePipeline(Pipeline):
    """A pipeline whose scripts may be the page as well."""

    def command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "Pipeline.page"] if name == "page" else super().command(name)

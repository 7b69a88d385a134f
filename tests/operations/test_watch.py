"""The watch tells whether all is well: in a terminal, in a narrow one, and without one."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from DB import open_database
from DurableText import codec
from Pipeline.observability import scraping
from Pipeline.observability.live_metrics import LiveMetrics
from Pipeline.observability.metrics import Sources
from Pipeline.observability.overview import last_rows
from Pipeline.observability.scraping import parse
from Pipeline.observability.stages import (
    DONE,
    Stage,
    Target,
    WatchedPipeline,
    problems,
    quantile,
)
from Pipeline.observability.waiting import Waiting
from Pipeline.stop import Stop
from Pipeline.tally import Tally
from Pipeline.watch.view import line, view
from tests.brokers.harness import LocalUnderTest
from tests.operations.scripts import wait_until_ready
from tests.pipeline.runner import ROOT, read_terminal
from tests.servers import free_port

WATCH = [sys.executable, "-m", "Pipeline.watch", "--interval", "0.1"]


@pytest.fixture
def counts() -> Tally:
    tally = Tally()
    tally.add(1234)
    return tally


@pytest.fixture
def app_2(counts: Tally, tmp_path: Path) -> Iterator[int]:
    """The metrics of an app_2 at work; its port."""
    embedded, port = LocalUnderTest(), free_port()
    embedded.start()
    broker, topic = embedded.connect_with_topic()
    with (
        LiveMetrics("app_2", ("127.0.0.1", port), Stop(), Waiting()) as metrics,
        broker.subscribe(topic) as subscription,
        metrics.follow(Sources(broker, subscription, db=tmp_path / "db.txt"), counts),
    ):
        metrics.batch(10)
        metrics.stored([{"published_at": "2999-01-01T00:00:00Z"}] * 10)
        wait_until_ready(port)
        yield port
    embedded.end_of_test()
    embedded.stop()


def test_once_as_json_tells_scripts_what_is_wrong(app_2: int) -> None:
    nobody = free_port()
    result = subprocess.run(
        [*WATCH, "--once", "--json", str(app_2), str(nobody)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert result.returncode == 1
    assert told["well"] is False
    assert told["problems"] == [
        "model_server_sub is not seen anywhere: start it with --metrics-port 9102",
        "model_server_pub is not seen anywhere: start it with --metrics-port 9103",
        f"localhost:{nobody}: away",
    ]
    assert told["stages"][0]["script"] == "app_2"
    assert told["stages"][0]["total"] == 1234
    assert told["stages"][0]["broker"] == "local"


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_it_fits_into_any_terminal_and_ends_on_control_c(app_2: int, columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    watch = subprocess.Popen(
        [*WATCH, str(app_2)], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = read_terminal(ours, b"app_2")
    watch.send_signal(signal.SIGINT)
    shown += read_terminal(ours)
    assert watch.wait(10) == 0
    assert b"Traceback" not in shown
    os.close(ours)


def test_without_a_terminal_it_says_a_line_each_time(app_2: int) -> None:
    with subprocess.Popen(
        [*WATCH, str(app_2)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline() for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0
    assert all("app_2 0/s" in line for line in lines)


def test_a_reader_that_goes_away_is_no_error(app_2: int) -> None:
    command = f"{' '.join(WATCH)} {app_2} | head -n 1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == ""


def test_a_picture_that_cannot_be_written_is_told_at_once(app_2: int) -> None:
    command = [*WATCH, "--picture", "/dev/null/watch.svg", str(app_2)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "watch: cannot write /dev/null/watch.svg: Not a directory\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["99999"], "'99999' is neither HOST:PORT nor PORT"),
        (["serving-1:0"], "'serving-1:0' is neither HOST:PORT nor PORT"),
        (["--picture", "/dev/null/watch.png"], "'/dev/null/watch.png' does not end in .svg"),
    ],
)
def test_what_cannot_be_watched_or_drawn_is_wrong_usage(arguments: list[str], says: str) -> None:
    result = subprocess.run(
        [*WATCH, *arguments, "--once"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert says in result.stderr


def test_a_target_that_hangs_or_speaks_something_else_is_shown_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("Pipeline.observability.scraping.SCRAPE_SECONDS", 0.2)
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        stage = Target(f"127.0.0.1:{hanging.getsockname()[1]}").look()
    assert not stage.ready
    assert "timed out" in stage.state
    with pytest.raises(ValueError):
        parse("<html>")


@pytest.mark.parametrize(
    ("body", "says"), [(b"a", "timed out"), (b"# as much as it takes\n" * 4000, "more than")]
)
def test_an_answer_without_an_end_is_not_read_for_ever(
    body: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else may be behind a port: a byte now and then, or as many as it can send."""
    monkeypatch.setattr(scraping, "SCRAPE_SECONDS", 0.5)
    monkeypatch.setattr(scraping, "MAX_ANSWER_BYTES", 1 << 20)

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(body)
                    time.sleep(0.05 if len(body) == 1 else 0)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stage = Target(f"127.0.0.1:{server.server_port}").look()
        server.shutdown()
    assert not stage.ready
    assert says in stage.state


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_a_head_that_drips_is_not_waited_for_to_its_end(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and the 64 KiB of a line of a head would take an hour."""
    monkeypatch.setattr(scraping, "SCRAPE_SECONDS", 0.5)
    ended = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != path:
                self.send_response(200)
                self.end_headers()
                return
            self.wfile.write(b"HTTP/1.0 200 OK\r\nDrip: ")
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    self.wfile.write(b"x")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # Without a limit it comes to an end by the server's alone, and is ready then.
        threading.Timer(10.0, ended.set).start()
        stage = Target(f"127.0.0.1:{server.server_port}").look()
        assert not ended.is_set()
        ended.set()
        server.shutdown()
    assert not stage.ready
    assert "timed out" in stage.state


def test_the_metrics_of_another_program_end_no_watch() -> None:
    assert parse("# TYPE leaky_bucket gauge\nleaky_bucket 3\n").values == {"leaky_bucket": 3}


def test_a_fault_is_a_problem_for_a_while_and_is_counted_for_good(
    app_2: int, counts: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(f"127.0.0.1:{app_2}")
    for _ in range(3):
        target.look()
    counts.lines_dead_lettered = 2
    stage = target.look()
    assert f"app_2 (127.0.0.1:{app_2}): 2 dead-lettered" in problems([stage])
    monkeypatch.setattr("Pipeline.observability.stages.FAULT_SECONDS", 0.0)
    for _ in range(4):
        stage = target.look()
    assert stage.faults == {"dead-lettered": 2}


def test_a_target_that_was_named_and_never_answered_is_a_problem() -> None:
    ready = [Stage("localhost:1", script, "ready", ready=True) for script in DONE]
    named = WatchedPipeline([f"127.0.0.1:{free_port()}"], named=True).look()
    tried = WatchedPipeline([f"127.0.0.1:{free_port()}"]).look()
    assert problems(ready + named) == [f"{named[0].target}: away"]
    assert problems(ready + tried) == []


def test_quantiles_are_estimated_as_prometheus_does() -> None:
    buckets = {0.1: 50.0, 0.2: 100.0, float("inf"): 100.0}
    assert quantile(0.5, buckets) == pytest.approx(0.1)
    assert quantile(0.75, buckets) == pytest.approx(0.15)
    assert quantile(0.99, {0.1: 0.0, float("inf"): 5.0}) == 0.1
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {0.1: 0.0, float("inf"): 0.0}) is None


def test_the_last_rows_are_read_from_the_end_of_a_long_db(tmp_path: Path) -> None:
    db = tmp_path / "db.txt"
    lines = [codec.frame(b'{"id":"%d"' % i) for i in range(1000)]
    db.write_bytes(b"".join(lines) + b'{"id":"torn')
    assert [row["id"] for row in last_rows(open_database(db, read_only=True), 2)] == ["999", "998"]
    assert last_rows(open_database(tmp_path / "elsewhere.txt", read_only=True), 2) == []


EVIL = "seven\x1b]0;owned\x07\x9b2J[/red][bold]\n"


def drawn(columns: int, lines: int = 24, **fields: Any) -> str:
    console = Console(width=columns, height=lines, file=io.StringIO(), force_terminal=True)
    told = {"stages": [], "problems": [], "rates": [], "results": [], **fields}
    stages, found, rates, results = told.values()
    console.print(view(stages, found, rates, results, columns=columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_what_other_programs_wrote_does_not_reach_the_terminal_as_commands(columns: int) -> None:
    row = {"id": EVIL, "label": EVIL, "expected_label": EVIL, "model": EVIL, "source": EVIL}
    stage = Stage("localhost:1", EVIL, EVIL, model=EVIL, broker=EVIL)
    text = drawn(
        columns, stages=[stage, replace(stage, ready=True)], results=[row], problems=[EVIL]
    )
    for command in ("\x1b]", "\x07", "\x9b"):
        assert command not in text
    assert line([stage], [EVIL], datetime.now(UTC)).isprintable()


@pytest.mark.parametrize("columns", [40, 80, 99, 100])
def test_the_verdict_is_seen_in_the_lowest_terminal(columns: int) -> None:
    stages = [Stage(f"localhost:{i}", script, "ready", ready=True) for i, script in enumerate(DONE)]
    text = drawn(columns, stages=stages, rates=[1.0] * 50, results=[{"label": "7"}] * 5)
    assert "all is well" in text.splitlines()[0]
    states = [row for row in text.splitlines() if "ready" in row]
    assert len(states) == len(DONE), "a state is shown in one line"


@pytest.mark.parametrize("columns", [40, 80])
def test_state_port_and_model_of_each_script_are_read_at_any_width(columns: int) -> None:
    model = "mnist_cnn_model@ef2e39484451+int8"
    stages = [
        Stage(f"localhost:910{i}", script, "ready", ready=True, waiting=12_000, p99=0.25,
              waits_for=("queue_full",), model=model if script == "model_server_sub" else None)
        for i, script in enumerate(DONE, 1)
    ]  # fmt: skip
    stages[3] = replace(stages[3], ready=False, state="waiting for 12 s: the DB's disk is full")
    text = re.sub(r"\x1b\[[0-9;]*m", "", drawn(columns, stages=stages))
    told = " ".join(text.split())
    for port in ("9101", "9102", "9103", "9104"):
        assert f":{port}" in told
    assert model in told.replace(" ", "")
    assert "disk is full" in told
    assert told.count("waits for queue_full") == 3


def test_a_proxy_for_the_world_is_not_asked_for_a_script_on_this_network(
    app_2: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    result = subprocess.run(
        [*WATCH, "--once", "--json", str(app_2)], cwd=ROOT, capture_output=True, text=True
    )
    assert json.loads(result.stdout)["stages"][0]["state"] == "ready"

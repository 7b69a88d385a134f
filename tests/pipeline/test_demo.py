"""`make demo`, with fewer images; and the progress bar of app_1 in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from Pipeline.demo.__main__ import STATE_FOLDER, Demo
from Pipeline.running import RunError, RunningPipeline, RunningScript
from tests.brokers.harness import clean_environment
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline, read_terminal, wait_until

DEMO = [sys.executable, "-m", "Pipeline.demo", "--count", "500"]
# Throughput and latency differ from run to run.
SAME_EACH_TIME = ("published", "stored", "dead-lettered", "accuracy", "model")
# What the tests themselves make in the project's root, perhaps while a demo runs.
OF_THE_TESTS = {".brokers", ".hypothesis", ".pytest_cache", "__pycache__"}


def test_the_demo_gives_the_same_twice_and_leaves_nothing_but_its_picture(tmp_path: Path) -> None:
    before = root_entries() - {STATE_FOLDER}  # of a run that failed before
    runs = [run_demo(tmp_path / f"{i}.png") for i in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]["published"] == runs[0]["stored"] == "500"
    assert runs[0]["dead-lettered"] == "0"
    assert root_entries() == before


def root_entries() -> set[Path]:
    return {path for path in ROOT.iterdir() if path.name not in OF_THE_TESTS}


def run_demo(picture: Path) -> dict[str, str]:
    done = subprocess.run(
        [*DEMO, "--picture", str(picture)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    return {name: text for name, text in lines if name in SAME_EACH_TIME}


def test_an_interrupted_demo_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--picture", str(tmp_path / "demo.png")],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    log = STATE_FOLDER / "model_server_pub.log"
    wait_until(lambda: log.exists() and "ready: " in log.read_text(), "it runs")
    os.killpg(demo.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGINT
    assert errors.endswith("demo: broken off before its end\n")
    assert "Traceback" not in errors
    assert not STATE_FOLDER.exists()


def test_a_script_that_ends_before_it_says_anything_is_no_defect(tmp_path: Path) -> None:
    """As where Ctrl-C comes while all of them are being started."""
    (tmp_path / "silent.py").touch()
    script = RunningPipeline(tmp_path, "local").start("silent")
    assert script.finish(PATIENCE_SECONDS) == "silent: ended before it had begun"


def test_a_script_that_fails_in_mid_run_ends_the_demo_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(demo: Demo, name: str, *arguments: object) -> RunningScript:
        script = run_as_usual(demo, name, *arguments)
        if name == "app_1":
            demo.scripts[2].process.kill()
        return script

    run_as_usual = Demo.start
    monkeypatch.setattr(Demo, "start", start)
    demo = Demo(tmp_path, "local", count=10_000)
    try:
        with pytest.raises(RunError, match=rf"app_2 ended with -9: see {tmp_path}/app_2.log"):
            demo.run()
    finally:
        demo.kill()


def test_a_picture_that_cannot_be_drawn_is_told_before_the_run(tmp_path: Path) -> None:
    for picture, code in (("/dev/null/demo.png", 1), (str(tmp_path / "demo.xyz"), 2)):
        done = subprocess.run(
            [*DEMO, "--picture", picture], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert picture in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_app_1_shows_its_progress_in_a_terminal_and_nowhere_else(pipeline: Pipeline) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    app_1 = subprocess.Popen(
        [sys.executable, str(ROOT / "app_1.py"), "--config-dir", str(pipeline.config_dir),
         "--count", "600"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, cwd=pipeline.folder,
        env={**clean_environment(), **pipeline.broker.environment},
    )  # fmt: skip
    os.close(theirs)
    shown = read_terminal(ours)
    os.close(ours)
    summary, _ = app_1.communicate(timeout=60)
    assert b"600/600" in shown
    assert b"100%" in shown
    assert summary.startswith(b"app_1: 600 of 600 images confirmed")
    assert "600/600" not in pipeline.app_1("--count", 600).end()
    assert "%|" not in pipeline.scripts[-1].output

"""A model that is loaded while the server is told to stop; one that forks processes meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.sentiment import Sentiment
from Pipeline.serving import loading
from Pipeline.serving.live_model import LiveModel
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop
from tests.operations.scripts import CheckpointFolder, scrape
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline, wait_until
from tests.servers import free_port

FORKS = """
import os, signal, time
from Pipeline.serving.loading import ended_by_signals

signal.signal(signal.SIGTERM, lambda *_: None)
reader, writer = os.pipe()
with ended_by_signals(0.1):
    child = os.fork()
    if child == 0:
        os.write(writer, b"forked")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            time.sleep(0.1)
        os._exit(0)
    os.read(reader, 6)
    os.kill(child, signal.SIGTERM)
    time.sleep(1)
print("loaded", os.waitpid(child, os.WNOHANG)[0], flush=True)
os.kill(child, signal.SIGKILL)
"""


def test_a_process_that_was_forked_while_a_model_is_loaded_holds_nobody_up() -> None:
    """It lives on with what it was given; that it is told to end does not concern its parent."""
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (script.returncode, script.stdout) == (0, "loaded 0\n"), script.stderr


def test_a_model_that_takes_long_to_load_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SLOW_MODEL_SECONDS", 0.01)

    class Source:
        name = "mine.onnx"

        def files(self) -> tuple[Path, ...]:
            return ()

        def load(self, looking: Callable[[], None]) -> Any:
            looking()
            wait_until(lambda: bool(caplog.messages), "it is told")
            return Sentiment(None, None)

    with Watchdog() as watchdog, LiveModel(Source(), Stop(), watchdog):
        pass
    assert caplog.messages == ["mine.onnx is still being loaded after 0.01 s"]


# Loads one model no sooner than there is a certain file, and tells soon.
SLOW_SHADOW = """
import os, time
from Pipeline.observability import waiting
waiting.SLOW_MODEL_SECONDS = 0.2
from Modelling.predictors.checkpoint_source import CheckpointSource
load = CheckpointSource.load
def slowly(self, looking):
    while self.name == os.environ["SLOW"] and not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.05)
    return load(self, looking)
CheckpointSource.load = slowly
"""


def test_a_shadow_that_takes_long_to_load_is_told_and_seen(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_SHADOW)
    shadow, release, port = CheckpointFolder(tmp_path / "shadow"), tmp_path / "release", free_port()
    sub = pipeline.sub(
        "--shadow", shadow.path, "--metrics-port", port,
        PYTHONPATH=f"{tmp_path}:{ROOT}", SLOW=str(shadow.path), RELEASE=str(release),
    )  # fmt: skip
    sub.says(f"{shadow.path} is still being loaded after 0.2 s")
    assert scrape(port).values['serving_waiting{reason="model"}'] == 1
    release.touch()
    sub.ready().terminate()


def test_work_that_takes_long_is_told_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []
    with Watchdog(end=ended.append) as watchdog:
        with watchdog.tell(0.0, "the model has not answered"), watchdog.tell(60.0, "nor that"):
            wait_until(lambda: bool(caplog.messages), "it is told")
        with watchdog.limit(0.0, "never"):
            wait_until(lambda: bool(ended), "it is ended")
    assert caplog.messages == ["the model has not answered", "never"]
    assert ended == [1]


def test_work_that_does_not_end_does_not_keep_the_server_from_stopping() -> None:
    ended: list[int] = []
    stop = Stop(grace_seconds=0.0)
    with Watchdog(stop, end=ended.append) as watchdog, watchdog.limit(3600.0, "never"):
        assert not ended
        stop.request()
        wait_until(lambda: bool(ended), "it is ended")
    assert set(ended) == {0}


def test_what_is_only_told_of_ends_no_server(caplog: pytest.LogCaptureFixture) -> None:
    """A reload that hangs does not cut off what is being stored when the grace is over."""
    ended: list[int] = []
    stop = Stop(grace_seconds=0.0)
    stop.request()
    with Watchdog(stop, end=ended.append) as watchdog, watchdog.tell(3600.0, "never"):
        for look in ("one look", "the next one"):
            with watchdog.tell(0.0, look):
                wait_until(lambda look=look: look in caplog.messages, look)
    assert not ended

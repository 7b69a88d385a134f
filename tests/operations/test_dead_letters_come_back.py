"""The cause is mended, the letters are replayed, and every image is in the DB once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from Modelling.data_preparation import bundled_test_images
from tests.brokers.harness import clean_environment
from tests.pipeline.runner import ROOT, Pipeline, wait_until

COUNT = 3000
# So many letters are published again when the replay is killed; none is acknowledged yet.
KILLED_AFTER = 1000
PHOTOS = 60

# A deployment at fault: its image library cannot read PNG.
BROKEN_LIBRARY = """
from PIL import PngImagePlugin
def refuse(self):
    raise SyntaxError("no PNG support in this build")
PngImagePlugin.PngImageFile._open = refuse
"""

# Stands for a moment in the middle, which a test could hardly hit otherwise.
STANDSTILL = f"""
import itertools, threading
from MessageBroker.core import broker as broker_core
calls, publish = itertools.count(), broker_core.BrokerCore.publish_unchecked
def publish_some(self, *arguments):
    if next(calls) == {KILLED_AFTER}:
        threading.Event().wait()
    return publish(self, *arguments)
broker_core.BrokerCore.publish_unchecked = publish_some
"""


def site(folder: Path, code: str) -> dict[str, str]:
    """An environment in which Python runs `code` before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


def dead_letters_command(pipeline: Pipeline, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "MessageBroker", "dead-letters", *arguments, pipeline.images]
    return [*command, "--config-dir", str(pipeline.config_dir), "--json"]


def environment(pipeline: Pipeline) -> dict[str, str]:
    return {**clean_environment(), **pipeline.broker.environment}


def run(pipeline: Pipeline, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        dead_letters_command(pipeline, *arguments),
        cwd=ROOT, env=environment(pipeline), capture_output=True, check=True,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_mended_replayed_and_killed_in_between_every_image_is_stored_once(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, image in enumerate(bundled_test_images()[0][:PHOTOS]):
        Image.fromarray(image).save(photos / f"{i}.png")

    faulty = pipeline.sub(**site(tmp_path / "broken", BROKEN_LIBRARY)).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    pipeline.app_1(photos, "--count", COUNT).end()
    broker = pipeline.connect()
    letters = f"{pipeline.images}-dead-letter"
    wait_until(lambda: broker.backlog(letters) == COUNT, "all are dead letters")
    assert pipeline.stored() == 0
    faulty.terminate()

    pipeline.sub().ready()  # mended
    killed = subprocess.Popen(
        dead_letters_command(pipeline, "replay", "--reason", "undecodable image"),
        cwd=ROOT, env={**environment(pipeline), **site(tmp_path / "standstill", STANDSTILL)},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    pipeline.wait_for_rows(KILLED_AFTER)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was killed in the middle, not at its end"
    assert pipeline.stored() == KILLED_AFTER
    assert broker.backlog(letters) == COUNT
    wait_until(
        lambda: (
            run(pipeline, "replay")["dead_letters"][0]["kept"] == 0 and broker.backlog(letters) == 0
        ),
        "a second replay ends the work",
    )

    pipeline.wait_for_rows(COUNT)
    pipeline.assert_each_stored_once()

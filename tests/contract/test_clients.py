"""docs/clients.md: its programs publish an image and read its result, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from Modelling.data_preparation import bundled_test_images, encode_npy
from tests.brokers.harness import clean_environment
from tests.contract.documents import ROOT
from tests.pipeline.runner import Pipeline

# The heading of a section by the broker that it is for.
OF_BROKER = {"kafka": "Kafka: confluent-kafka", "pubsub": "Google Cloud Pub/Sub"}


def section(beginning: str) -> str:
    """Return the program of the section with this heading."""
    pattern = rf"^## {re.escape(beginning)}.*?^```\w+\n(.*?)^```"
    found = re.search(pattern, (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, beginning
    return found[1]


def on_topics_of(pipeline: Pipeline, text: str) -> str:
    return text.replace("new_image_topic", pipeline.images).replace(
        "inference_topic", pipeline.inferences
    )


def started(pipeline: Pipeline) -> Path:
    for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
        script.ready()
    image = pipeline.folder / "image.npy"
    image.write_bytes(encode_npy(bundled_test_images()[0][0]))
    return image


@pytest.mark.parametrize("running_broker", list(OF_BROKER), indirect=True)
def test_the_brokers_own_client_needs_nothing_of_this_project(
    pipeline_on_each_broker: Pipeline,
) -> None:
    pipeline = pipeline_on_each_broker
    image = started(pipeline)
    program = pipeline.folder / "client.py"
    program.write_text(on_topics_of(pipeline, section(OF_BROKER[pipeline.broker.name])))
    done = subprocess.run(
        [sys.executable, program, image],
        env={**clean_environment(), **pipeline.broker.environment},
        cwd=pipeline.folder,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "7"


@pytest.mark.soak
@pytest.mark.parametrize("running_broker", ["kafka"], indirect=True)
def test_kcat_publishes_and_reads(pipeline_on_each_broker: Pipeline) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed: apt install kcat")
    pipeline = pipeline_on_each_broker
    image, image_id = started(pipeline), str(uuid.uuid4())
    variables = {"IMAGE": str(image), "IMAGE_ID": image_id, "PATH": os.environ["PATH"]}
    environment = {**pipeline.broker.environment, **variables}
    publish, read = on_topics_of(pipeline, section("Kafka on the command line")).splitlines()
    subprocess.run(["bash", "-c", publish], env=environment, check=True)
    pipeline.wait_for_rows(1)
    done = subprocess.run(["bash", "-c", read], env=environment, capture_output=True, check=True)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [image_id]

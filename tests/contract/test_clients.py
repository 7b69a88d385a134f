"""docs/clients.md: its programs publish an image and read its result, as they stand there."""

from __future__ import annotations

import base64
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
@pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True)
def test_gcloud_publishes_and_pulls(pipeline_on_each_broker: Pipeline) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed: apt install google-cloud-cli")
    pipeline = pipeline_on_each_broker
    started(pipeline).rename(pipeline.folder / "photo.jpg")
    variables = pipeline.broker.environment
    environment = {
        **variables,
        "PATH": os.environ["PATH"],
        "HOME": str(pipeline.folder),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{variables['PUBSUB_EMULATOR_HOST']}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": variables["GOOGLE_CLOUD_PROJECT"],
    }
    text = on_topics_of(pipeline, section("Pub/Sub on the command line"))
    text = text.replace("my-client", pipeline.broker.unused_name("my-client"))
    before, pull = re.split(r"^(?=.* pull )", text, flags=re.MULTILINE)
    run = {"env": environment, "cwd": pipeline.folder, "check": True, "timeout": 120}
    subprocess.run(["bash", "-ec", before], **run)
    pipeline.wait_for_rows(1)
    done = subprocess.run(
        ["bash", "-c", f"{pull.strip()} --format=json"], capture_output=True, **run
    )
    [pulled] = json.loads(done.stdout)
    assert json.loads(base64.b64decode(pulled["message"]["data"]))["label"] == "7"


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

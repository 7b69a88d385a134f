"""What the files for Docker say, held against the scripts. Docker itself is not needed."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest

from Pipeline.observability.stages import USUAL_PORTS
from tests.pipeline.runner import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = ("app_1", "model_server_sub", "model_server_pub", "app_2")


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_is_a_service_whose_options_it_takes(script: str) -> None:
    service = re.search(rf"^  {script}:\n((?:    .*\n)+)", COMPOSE, re.MULTILINE)
    assert service, f"no service {script}"
    command = re.search(r"^    command: (.*)$", service[1], re.MULTILINE)
    if command is None:
        assert f"entrypoint: [python, {script}.py]" in service[1]
        return
    file, *arguments = shlex.split(command[1])
    assert file == f"{script}.py"
    options = importlib.import_module(script).parser().parse_args(arguments)
    assert f'ports: ["127.0.0.1:{options.metrics_port}:{options.metrics_port}"]' in service[1]
    path = options.db if script == "app_2" else options.queue
    assert f":{path.parent}" in service[1], "what it writes is on a volume"
    assert str(path.parent) in DOCKERFILE


def test_the_scripts_reach_the_broker_by_a_listener_that_it_advertises_to_containers() -> None:
    server = re.search(r"KAFKA_BOOTSTRAP_SERVERS: (\S+)", COMPOSE)
    advertised = re.search(r"KAFKA_ADVERTISED_LISTENERS: (\S+)", COMPOSE)
    assert server
    assert advertised
    assert f"CONTAINERS://{server[1]}" in advertised[1].split(",")
    assert "PLAINTEXT://localhost:9092" in advertised[1].split(",")


def test_the_image_exposes_the_ports_that_the_watch_looks_at() -> None:
    assert f"EXPOSE {' '.join(map(str, USUAL_PORTS.values()))}\n" in DOCKERFILE

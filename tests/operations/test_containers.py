"""Dockerfile and compose: by their own tools and schema, and held against the scripts."""

from __future__ import annotations

import functools
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from Pipeline.observability.stages import USUAL_PORTS
from tests.pipeline.runner import ROOT

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DEPLOY = ROOT / "deploy"
OUR_IMAGE = "event-driven-model-serving"
# The reference implementation of compose's specification: what `docker compose config` is made of.
REFERENCE = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"


@functools.cache
def services() -> dict[str, dict[str, Any]]:
    """Return the services of the compose file, by name."""
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def ours() -> dict[str, dict[str, Any]]:
    """Return those that run a script."""
    return {name: each for name, each in services().items() if each["image"] == OUR_IMAGE}


# `app_1` ends by itself, and its arguments are the user's.
STAYING_UP = sorted(services().keys() - {"app_1"})
SERVERS = sorted(ours().keys() - {"app_1"})


def script_and_options(name: str) -> tuple[str, Any]:
    """Return the script of a service, and what its parser makes of the arguments."""
    command, *arguments = shlex.split(ours()[name]["command"])
    script = command.removeprefix("edms-").replace("-", "_")
    return script, importlib.import_module(script).parser().parse_args(arguments)


def checked(*command: object) -> None:
    """Run a tool that has to be content."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_valid_by_the_schema_of_compose() -> None:
    tool = sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"
    checked(*tool, COMPOSE)


@pytest.mark.soak
def test_the_reference_implementation_of_compose_takes_the_file() -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed: apt install golang")
    checked(go, "run", REFERENCE, COMPOSE)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    checked(Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile")


def test_every_image_has_a_version() -> None:
    images = [each["image"] for each in services().values() if each["image"] != OUR_IMAGE]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert [each for each in images if not re.search(r":v?\d+\.\d+", each)] == []


@pytest.mark.parametrize("name", STAYING_UP)
def test_what_stays_up_is_asked_for_its_health_and_has_a_limit(name: str) -> None:
    service = services()[name]
    assert service["healthcheck"]["test"]
    assert service["mem_limit"]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "it asks for no password"


@pytest.mark.parametrize("name", SERVERS)
def test_a_service_takes_its_options_and_is_asked_at_its_own_port(name: str) -> None:
    service = ours()[name]
    _, options = script_and_options(name)
    assert f"127.0.0.1:{options.metrics_port}/healthz" in service["healthcheck"]["test"][-1]
    for port in service.get("ports", ()):
        assert port == f"127.0.0.1:{options.metrics_port}:{options.metrics_port}"


@pytest.mark.parametrize("name", SERVERS)
def test_a_service_writes_on_volumes_only_for_its_root_is_read_only(name: str) -> None:
    service, environment = ours()[name], ours()[name]["environment"]
    script, options = script_and_options(name)
    assert service["read_only"]
    written = [options.state_dir] if options.state_dir else []
    if script == "app_2" and "RESULT_DB" not in environment:
        written.append(Path(options.db).parent)
    if script != "app_2" and "RESULT_QUEUE" not in environment:
        written.append(Path(options.queue).parent)
    elif script != "app_2":
        assert options.state_dir, "what must be remembered on this host"
    mounted = {Path(volume.rpartition(":")[2]) for volume in service.get("volumes", ())}
    assert {*written} <= mounted
    for each in written:
        assert f'"{each}"' in DOCKERFILE, "made in the image, for its user"


def test_app_1_is_run_by_its_entry_point() -> None:
    assert ours()["app_1"]["entrypoint"] == ["edms-app-1"]


def test_the_scripts_reach_the_broker_by_a_listener_that_it_advertises_to_containers() -> None:
    advertised = services()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert "PLAINTEXT://localhost:9092" in advertised
    for service in ours().values():
        server = service["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
        assert f"CONTAINERS://{server}" in advertised


def test_the_image_exposes_the_ports_that_the_watch_looks_at() -> None:
    assert f"EXPOSE {' '.join(map(str, USUAL_PORTS.values()))}\n" in DOCKERFILE


def test_prometheus_scrapes_every_service_and_grafana_asks_prometheus() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {each for group in job["static_configs"] for each in group["targets"]}
    targets |= {
        f"{name}:{group['port']}" for group in job["dns_sd_configs"] for name in group["names"]
    }
    assert targets == {f"{name}:{script_and_options(name)[1].metrics_port}" for name in SERVERS}
    for name in SERVERS:
        assert script_and_options(name)[1].metrics_host == "0.0.0.0"
    sources = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    assert yaml.safe_load(sources)["datasources"][0]["url"] == "http://prometheus:9090"


def test_whoever_builds_the_image_copies_all_that_the_wheel_is_made_of() -> None:
    copied = set(" ".join(re.findall(r"^COPY ([^-/].*) \S+$", DOCKERFILE, re.MULTILINE)).split())
    project = (ROOT / "pyproject.toml").read_text()
    wheel = re.search(r"^only-include = \[\n(.*?)\]", project, re.MULTILINE | re.DOTALL)
    assert wheel
    assert set(re.findall(r'"(.*?)"', wheel[1])) <= copied

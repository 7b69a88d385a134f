"""What the files of deploy/ say: by their own tools, and held against the scripts."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from Pipeline.observability import metric_table
from Pipeline.observability.metric_table import COUNTERS, Metric
from tests.pipeline.runner import ROOT, Pipeline, wait_until
from tests.servers import free_port

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"


def needed(tool: str, package: str) -> str:
    """Find a tool; where it is missing, skip and say where it comes from, but never in CI."""
    found = shutil.which(tool)
    if found is None:
        assert not os.environ.get("CI"), f"{tool} is missing: {package}"
        pytest.skip(f"{tool} is not installed: {package}")
    return found


# ---------------------------------------------------------------------- systemd


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda unit: unit.stem)
def test_systemd_takes_each_unit_and_the_script_its_options(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    command = re.search(r"^ExecStart=/opt/edms/bin/(\S+) (.*)$", text, re.MULTILINE)
    assert command is not None
    script = command[1].removeprefix("edms-").replace("-", "_")
    importlib.import_module(script).parser().parse_args(shlex.split(command[2]))

    installed = tmp_path / command[1]  # systemd wants to see the program
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/edms/bin", str(tmp_path)))
    tool = needed("systemd-analyze", "systemd")
    done = subprocess.run([tool, "verify", "--man=no", copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(copy) not in done.stderr, done.stderr  # a warning of it


# ---------------------------------------------------------------------- Kubernetes


def manifests(folder: Path) -> list[dict[str, Any]]:
    """Return what a Kustomization names, and what those name that it names."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        path = folder / name
        found += manifests(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
    return found


KUSTOMIZATIONS = sorted(
    path.parent for path in (DEPLOY / "kubernetes").glob("*/kustomization.yaml")
)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_kubernetes_takes_each_manifest_and_the_scripts_their_arguments(folder: Path) -> None:
    import kubernetes_validate  # takes seconds, in each process that collects the tests

    for manifest in manifests(folder):
        if manifest["apiVersion"].startswith("keda.sh/"):  # KEDA's own kind
            assert {*manifest["spec"]} >= {"scaleTargetRef", "triggers"}
            continue
        kubernetes_validate.validate(manifest, "1.34", strict=True)
        pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            check_container(pod, container)


def check_container(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Hold a container against its script, and against what `restricted` pods may do."""
    command, *arguments = container["args"]
    script = command.removeprefix("edms-").replace("-", "_")
    options = importlib.import_module(script).parser().parse_args(arguments)
    assert [port["containerPort"] for port in container["ports"]] == [options.metrics_port]
    assert container["resources"]["limits"]["memory"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert pod["securityContext"]["runAsNonRoot"]
    names = {port["name"] for port in container["ports"]}
    assert all(re.fullmatch(port_names_that_are_scraped(), name) for name in names)
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in names
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    written = options.state_dir or Path(options.db if script == "app_2" else options.queue).parent
    assert str(written) in mounted


def kustomize() -> tuple[str, ...]:
    """Return how to build a Kustomization: kubectl brings it along."""
    if kubectl := shutil.which("kubectl"):
        return kubectl, "kustomize"
    how = "kubectl, or go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
    return needed("kustomize", how), "build"


@pytest.mark.soak
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_kustomize_builds_each_folder(folder: Path) -> None:
    done = subprocess.run([*kustomize(), folder], capture_output=True, text=True, check=True)
    built = [*yaml.safe_load_all(done.stdout)]
    assert {each["metadata"].get("namespace", "edms") for each in built} == {"edms"}
    kinds = [each["kind"] for each in built if each["metadata"]["name"] == "app-2"]
    assert ("Deployment" in kinds) == (folder.name == "postgres")
    assert ("StatefulSet" in kinds) != (folder.name == "postgres")


# ---------------------------------------------------------------------- Prometheus, Grafana


def port_names_that_are_scraped() -> str:
    """Return what Prometheus in a cluster looks for."""
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "kubernetes.yml").read_text())["scrape_configs"]
    [port] = [each for each in job["relabel_configs"] if "port_name" in each["source_labels"][0]]
    return str(port["regex"])


@pytest.mark.parametrize(
    "check",
    [
        "check rules rules.yml",
        "check config prometheus.yml",
        "test rules rules_test.yml",
    ],
)
def test_promtool_takes_rules_and_configuration(check: str) -> None:
    tool = needed("promtool", "prometheus")
    done = subprocess.run(
        [tool, *check.split()], cwd=DEPLOY / "prometheus", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration_for_a_cluster(tmp_path: Path) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "kubernetes.yml").read_text())
    [job] = config["scrape_configs"]
    del job["kubernetes_sd_configs"]  # which Debian's promtool is built without
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus" / "rules.yml", tmp_path)
    tool = needed("promtool", "prometheus")
    done = subprocess.run(
        [tool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_going_off() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    expected = [each for test in tests for each in test.get("alert_rule_test", ())]
    assert alerts == {each["alertname"] for each in expected if each["exp_alerts"]}


def test_whoever_decides_by_metrics_names_those_that_there_are() -> None:
    metrics = [each for each in vars(metric_table).values() if isinstance(each, Metric)]
    metrics += [each for counters in COUNTERS.values() for each in counters.values()]
    endings = "", "_total", "_info", "_bucket", "_count", "_sum"
    exported = {metric.name + ending for metric in metrics for ending in endings}
    for path in (*DEPLOY.rglob("*.y*ml"), DASHBOARD):
        named = {*re.findall(r"\bserving_[a-z_]+", path.read_text())}
        assert named <= exported, path.name


def test_each_query_of_the_dashboard_has_an_answer_from_a_running_pipeline(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    ports = {script: free_port() for script in ("sub", "pub", "app_2")}
    scripts = [getattr(pipeline, name)("--metrics-port", ports[name]) for name in ports]
    for script in scripts:
        script.ready()
    pipeline.app_1("--count", 100_000, "--rate", 50)
    with running_prometheus(list(ports.values()), tmp_path) as address:
        queries = {
            target["expr"].replace("$__rate_interval", "20s")
            for panel in json.loads(DASHBOARD.read_text())["panels"]
            for target in panel["targets"]
        }
        assert len(queries) > 20

        def unanswered() -> set[str]:
            return {query for query in queries if not answer(address, query)}

        wait_until(lambda: not unanswered(), "each query of the dashboard has an answer")


@contextlib.contextmanager
def running_prometheus(ports: list[int], folder: Path) -> Iterator[str]:
    """Scrape these ports every half second; yield where Prometheus answers."""
    tool, port = needed("prometheus", "prometheus"), free_port()
    targets = [f"127.0.0.1:{each}" for each in ports]
    config = {
        "global": {"scrape_interval": "500ms"},
        "scrape_configs": [{"job_name": "serving", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [tool, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address={address}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def answer(address: str, query: str) -> list[Any]:
    """Ask Prometheus; nothing while it does not answer. A wrong query is an error."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return list(json.load(response)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it is still reading its log
            return []
        raise AssertionError(f"{query}: {error.read().decode()}") from None
    except OSError:
        return []

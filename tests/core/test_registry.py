"""A broker that another package brings is found by its name, in every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from MessageBroker import (
    BROKER_NAMES,
    ConfigurationError,
    MessageBrokerFactory,
    register_broker,
)
from MessageBroker.local_handler import LocalHandler
from tests.brokers.harness import clean_environment
from tests.pipeline.runner import ROOT

HANDLER = """
from MessageBroker.local_handler import LocalHandler

class NatsHandler(LocalHandler):
    name = "nats"
"""


def install(folder: Path, target: str) -> dict[str, str]:
    """Make a package with an entry point; return an environment that has it."""
    (folder / "nats_for_edms.py").write_text(HANDLER)
    about = folder / "nats_for_edms-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nats-for-edms\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[edms.brokers]\nnats = {target}\n")
    return {
        **clean_environment(),
        "PYTHONPATH": f"{folder}:{ROOT}",
        "LOCAL_BROKER_PATH": str(folder / "broker"),
        "MESSAGE_BROKER": "nats",
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_broker_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    environment = install(tmp_path, "nats_for_edms:NatsHandler")
    done = run(environment, str(ROOT / "app_1.py"), "--count", "2", "--broker", "nats")
    assert done.returncode == 0, done.stderr
    done = run(environment, "-m", "MessageBroker", "ping")
    assert (done.returncode, "nats" in done.stdout) == (0, True), done.stderr
    done = run(environment, "-m", "MessageBroker", "ping", "--broker", "nat")
    assert done.returncode == 2
    assert "'nats'" in done.stderr, "the names to choose from"


def test_an_entry_point_that_names_no_handler_is_a_configuration_error(tmp_path: Path) -> None:
    done = run(install(tmp_path, "nats_for_edms:Nothing"), "-m", "MessageBroker", "ping")
    assert done.returncode == 2
    assert "nats_for_edms:Nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_may_register_a_handler_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Mine(LocalHandler):
        name = "mine"

    monkeypatch.setattr("MessageBroker.registry._registered", {})
    monkeypatch.setenv("LOCAL_BROKER_PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="kafka, pubsub, local"):
        MessageBrokerFactory.get_broker("mine")
    register_broker("mine", Mine)
    assert "mine" in [*BROKER_NAMES]
    with MessageBrokerFactory.get_broker("mine") as broker:
        assert isinstance(broker, Mine)
    with pytest.raises(ValueError, match="'local'"):
        register_broker("local", Mine)

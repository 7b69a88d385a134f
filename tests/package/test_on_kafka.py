"""The wheel with the extra `kafka`, on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.brokers.harness import BrokerUnderTest
from tests.package.conftest import ROOT, Installed


@pytest.mark.soak
@pytest.mark.parametrize("running_broker", ["kafka"], indirect=True)
def test_the_wheel_with_its_extra_runs_the_pipeline_on_kafka(
    installed: Installed, wheel: Path, under_test: BrokerUnderTest, tmp_path: Path
) -> None:
    installed.add("-c", ROOT / "requirements.txt", f"{wheel}[kafka]")
    variables = {**under_test.environment, "MESSAGE_BROKER": "kafka"}
    state = {"RESULT_QUEUE": str(tmp_path / "log.txt"), "RESULT_DB": str(tmp_path / "db.txt")}
    installed.must("edms", "broker", "topics", "create", **variables)
    installed.must("edms-app-1", "--count", 20, **variables)
    for command in ("edms-model-server-sub", "edms-model-server-pub", "edms-app-2"):
        installed.must(command, "--exit-when-idle", 2, **variables, **state)
    assert json.loads(installed.must("edms", "db", "summary", "--json", **state))["rows"] == 20

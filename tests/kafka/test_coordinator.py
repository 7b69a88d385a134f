"""A cluster whose brokers answer, and whose groups have no coordinator yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers.harness import clean_environment
from tests.brokers.kafka_jars import find_or_skip
from tests.brokers.kafka_server import KafkaCluster
from tests.pipeline.runner import ROOT
from tests.waiting import wait_until


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    """One node that would need three for the topic in which groups are kept."""
    find_or_skip()
    with KafkaCluster(extra_properties={"offsets.topic.replication.factor": "3"}) as running:
        yield running


def start_app_2(cluster: KafkaCluster, folder: Path, patience: int) -> subprocess.Popen[bytes]:
    environment = {
        **clean_environment(),
        "MESSAGE_BROKER": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
    }
    options = ["--db", str(folder / "db.txt"), "--wait-for-broker", str(patience)]
    with (folder / f"{patience}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "app_2.py"), *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.timeout(120)
def test_the_coordinator_of_the_group_is_waited_for_as_the_brokers_are(
    cluster: KafkaCluster, tmp_path: Path
) -> None:
    impatient = start_app_2(cluster, tmp_path, 2)
    assert impatient.wait(60) != 0
    said = (tmp_path / "2.log").read_text()
    assert "coordinator of the group" in said.splitlines()[-1]
    assert "Traceback" not in said

    patient = start_app_2(cluster, tmp_path, 60)
    log = tmp_path / "60.log"
    try:
        wait_until(lambda: "waiting" in log.read_text(), "word of what is waited for")
        assert patient.poll() is None
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
        offsets = NewTopic("__consumer_offsets", 3, 1, config={"cleanup.policy": "compact"})
        admin.create_topics([offsets])["__consumer_offsets"].result(20)
        wait_until(lambda: "ready: " in log.read_text(), "the script is ready")
        patient.terminate()
        assert patient.wait(30) == 0, log.read_text()
    finally:
        patient.kill()
        patient.wait()

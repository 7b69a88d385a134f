"""A pipeline on each broker, and one on the embedded broker for what no broker makes different."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.harness import BrokerUnderTest, LocalUnderTest
from tests.pipeline.runner import Pipeline


@pytest.fixture
def pipeline_on_each_broker(under_test: BrokerUnderTest, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(under_test, tmp_path)
    yield pipeline
    pipeline.stop()


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[BrokerUnderTest]:
    broker = LocalUnderTest()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def pipeline(embedded_broker: BrokerUnderTest, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(embedded_broker, tmp_path)
    yield pipeline
    pipeline.stop()
    embedded_broker.end_of_test()

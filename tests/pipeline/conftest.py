"""A pipeline on each broker, and one on the embedded broker for what no broker makes different."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.harness import BrokerUnderTest, LocalUnderTest
from tests.pipeline.runner import Pipeline


@pytest.fixture
def pipeline_on_each_broker(under_test: BrokerUnderTest, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(under_test, tmp_path) as pipeline:
        yield pipeline


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[BrokerUnderTest]:
    with LocalUnderTest() as broker:
        yield broker


@pytest.fixture
def pipeline(embedded_broker: BrokerUnderTest, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(embedded_broker, tmp_path) as pipeline:
        yield pipeline
    embedded_broker.end_of_test()

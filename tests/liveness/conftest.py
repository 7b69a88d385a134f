"""A pipeline whose every script runs, and a stranger beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.harness import BrokerUnderTest
from tests.liveness.poison import STRANGERS, Stranger
from tests.pipeline.runner import Pipeline


@pytest.fixture
def pipeline(under_test: BrokerUnderTest, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(under_test, tmp_path) as pipeline:
        yield pipeline


@pytest.fixture
def stranger(under_test: BrokerUnderTest) -> Stranger:
    return STRANGERS[under_test.name](under_test)

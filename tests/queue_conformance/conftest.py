"""The engines behind the queue, one of each for all tests."""

from __future__ import annotations

from tests.engines.fixtures import fixtures_of
from tests.queue_conformance.harness import ENGINES

running_engine, engine = fixtures_of(ENGINES)

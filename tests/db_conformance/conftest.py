"""The engines behind the DB, one of each for all tests."""

from __future__ import annotations

from tests.db_conformance.harness import ENGINES
from tests.engines.fixtures import fixtures_of

running_engine, engine = fixtures_of(ENGINES)

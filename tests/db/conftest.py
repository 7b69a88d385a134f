"""A PostgreSQL for the tests that are about PostgreSQL alone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.engines.postgres_server import PostgresServer, find_or_skip
from tests.pipeline.conftest import embedded_broker, pipeline  # noqa: F401 - fixtures

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that the tests leave as it was."""
    find_or_skip()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """The URL of a table that is not there yet."""
    return postgres.url(table=f"t{next(_numbers)}")


@pytest.fixture
def libpq(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set libpq's variables; nothing of the person's own is in force."""
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables

"""The emulator of all tests, its bare client, and a service that answers what it is told to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.brokers.harness import FOREIGN_VARIABLES, BrokerUnderTest
from tests.pubsub.bare_client import BareClient
from tests.pubsub.fake_service import FakeService

# What gRPC leaves behind in this process is the library's; what the tests look for is ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@pytest.fixture
def bare(under_test: BrokerUnderTest) -> Iterator[BareClient]:
    """The generated client, without anything of ours around it."""
    client = BareClient(under_test.environment)
    yield client
    client.close()


@pytest.fixture
def no_broker_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable names a broker."""
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service(
    no_broker_of_ours: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FakeService]:
    """A gRPC server that answers each call as the test says; our client takes it for Pub/Sub."""
    fake = FakeService()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", fake.host)
    yield fake
    fake.stop()

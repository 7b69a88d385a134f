"""Every behaviour of the contract, on the memory broker: what an author writes to run the suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from memory_broker.handler import CONFIG, SOCKET_VARIABLE, MemoryHandler
from memory_broker.server import Server
from memory_broker.state import LEASE_SECONDS, MemoryBroker

from MessageBroker.conformance import BrokerUnderTest
from MessageBroker.conformance.suite import *  # noqa: F403


class MemoryUnderTest(BrokerUnderTest):
    """The broker in this process, its server at a socket that other processes reach."""

    name = "memory"
    inattention_seconds = LEASE_SECONDS

    def start(self) -> None:
        """Begin with no topics."""
        self._broker = MemoryBroker()
        self._socket = self.config_dir / "socket"
        self._server = Server(self._broker, self._socket)
        self.write_ini(CONFIG, f"[default]\nsocket = {self._socket}\n")

    def stop(self) -> None:
        """Forget all messages."""
        self._server.close()
        super().stop()

    @property
    def environment(self) -> dict[str, str]:
        """Name the socket."""
        return {SOCKET_VARIABLE: str(self._socket)}

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Let the socket be gone; the messages stay in memory."""
        self._server.close()
        try:
            yield
        finally:
            self._server = Server(self._broker, self._socket)

    def handler_class(self) -> type[MemoryHandler]:
        """Return the handler, which other processes import by its name."""
        return MemoryHandler


@pytest.fixture(scope="session")
def running_broker() -> Iterator[BrokerUnderTest]:
    """Start it once for all tests."""
    with MemoryUnderTest() as broker:
        yield broker

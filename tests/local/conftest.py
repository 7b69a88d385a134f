"""The embedded broker in a folder of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from MessageBroker import DeliverySettings
from MessageBroker.local_handler import LocalHandler

Connect = Callable[[], LocalHandler]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def connect(folder: Path) -> Iterator[Connect]:
    """Open the broker once more, as another process would; all are closed after the test."""
    with contextlib.ExitStack() as opened:

        def connect() -> LocalHandler:
            broker = LocalHandler(folder, DeliverySettings(min_backoff=0.05, max_backoff=0.4))
            opened.callback(broker.close, 1.0)
            return broker

        yield connect

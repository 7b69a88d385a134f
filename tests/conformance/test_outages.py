"""See the module that is imported; a module of its own, so that processes can share the suite."""

from __future__ import annotations

import pytest

from MessageBroker.conformance.outages import *  # noqa: F403
from MessageBroker.local import database, turnstile


@pytest.fixture(autouse=True)
def _who_waits_for_a_lock_gives_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is the same as with 8 and 5 s, of which the embedded broker would wait several."""
    monkeypatch.setattr(turnstile, "PATIENCE_SECONDS", 1.5)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 1.0)

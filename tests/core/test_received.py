"""What was received is made in a quicker way than by the constructor, and is no other for it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from MessageBroker.message import Delivery, Message, received


def test_what_was_received_is_a_message_like_any_other() -> None:
    now = datetime.now(UTC)
    message = received("1", b"body", {"name": "value"}, "key", "topic", now, Delivery(7, 4))
    assert type(message) is Message
    assert message == Message("1", b"body", {"name": "value"}, "key", "topic", now)
    assert message.delivery.handle == 7
    assert dataclasses.replace(message, delivery_attempt=2).delivery_attempt == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.key = None  # type: ignore[misc]

"""How messages are delivered: the same settings for every broker (`[delivery]`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeliverySettings:
    """Settings of `[delivery]` in `broker_config.ini`.

    Attributes:
        max_delivery_attempts: nacks after which a message goes to the dead-letter topic.
        min_backoff: seconds until a message comes again after its first nack.
        max_backoff: seconds that the back-off, doubled with each nack, never exceeds.
        max_lease_seconds: how long a live consumer may keep a message un-acked; then others get
            it.
        max_outstanding_messages: un-acked messages at which a subscription hands out no more.
        max_outstanding_bytes: the same in bytes of data. The messages of one fetch may exceed it.
    """

    max_delivery_attempts: int = 5
    min_backoff: float = 0.5
    max_backoff: float = 60.0
    max_lease_seconds: float = 3600.0
    # Several batches of a model server, so that decoding, predicting and acking overlap.
    max_outstanding_messages: int = 4096
    # Nine messages of the largest size; 72,000 of MNIST's.
    max_outstanding_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be more than 0 and finite, not {value}")
        if self.min_backoff > self.max_backoff:
            raise ValueError(
                f"min_backoff ({self.min_backoff}) is more than max_backoff ({self.max_backoff})"
            )

"""The result of an image, as the peers in Python write it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def result_of(headers: Mapping[str, str], label: int, confidence: float) -> bytes:
    """Return a result as JSON; the headers are those of its image."""
    return orjson.dumps(
        {
            "id": headers["ce_id"],
            "label": str(label),
            "confidence": round(confidence, 5),
            "expected_label": headers.get("ce_expectedlabel"),
            "published_at": headers["ce_time"],
        }
    )

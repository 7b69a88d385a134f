"""Bodies through the whole pipeline, whatever answers them."""

from __future__ import annotations

from typing import Any

from MessageBroker import OutgoingMessage
from tests.pipeline.runner import ROOT, Pipeline


def run(pipeline: Pipeline, bodies: list[bytes], *options: object) -> list[dict[str, Any]]:
    """Publish bodies, serve them, and return the rows of the DB by their order."""
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    messages = [
        OutgoingMessage(body, attributes={"ce_id": str(number), "ce_source": "s"})
        for number, body in enumerate(bodies)
    ]
    broker.publish_batch(pipeline.images, messages)
    sub = pipeline.sub(*options, "--exit-when-idle", 1, PYTHONPATH=f"{ROOT}:{pipeline.folder}")
    sub.end()
    pipeline.pub("--exit-when-idle", 1).end()
    pipeline.app_2("--exit-when-idle", 1).end()
    return sorted(pipeline.rows(), key=lambda row: row["id"])

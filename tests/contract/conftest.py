"""The contract is looked at on the embedded broker; that all carry the same is conformance."""

from tests.pipeline.conftest import embedded_broker, pipeline, pipeline_on_each_broker

__all__ = ["embedded_broker", "pipeline", "pipeline_on_each_broker"]

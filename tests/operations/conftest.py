"""A pipeline on the embedded broker: hardly anything here depends on which broker it is."""

from tests.pipeline.conftest import embedded_broker, pipeline, pipeline_on_each_broker

__all__ = ["embedded_broker", "pipeline", "pipeline_on_each_broker"]

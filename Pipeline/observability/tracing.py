"""Traces: each stage adds a span to the trace that an image's W3C `traceparent` names.

The trace context travels with the image, through the queue, into the result and the DB, whether
anybody traces or not. Spans are made where the OpenTelemetry SDK is installed and the environment
says so: `OTEL_TRACES_EXPORTER` names an exporter (`otlp`, `console`, or any installed one) and its
settings, as for every program that uses OpenTelemetry. Nothing else is needed, and without that
variable nothing of it is imported.

Sources: https://www.w3.org/TR/trace-context/,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/,
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from DurableText.installation.extras import how_to_get
from DurableText.moments import seconds_of
from DurableText.program.closing import ClosedAtExit
from Pipeline.events import TRACE_PARENT

logger = logging.getLogger(__name__)

EXPORTER_VARIABLE = "OTEL_TRACES_EXPORTER"
# How long the end of a script waits for the last spans to be sent.
LAST_SPANS_SECONDS = 5.0
NANOSECONDS = 1_000_000_000

Carrier = MutableMapping[str, Any]


class Tracing(ClosedAtExit):
    """Nobody traces: the context of each image passes through untouched."""

    def spans(
        self,
        name: str,  # noqa: ARG002
        carriers: Sequence[Any],  # noqa: ARG002
        *,
        since: str | None = None,  # noqa: ARG002
        root: bool = False,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Add a span to the trace of each carrier, from `since` until the context is left.

        The carriers' `traceparent` becomes the span's, so that the next stage's span hangs below.

        Args:
            name: of the spans.
            carriers: dictionaries (attributes or records) with a `traceparent`; those without one
                are left out.
            since: the field of a carrier with the time at which the work began; None is now.
            root: begin a trace for those without one.
        """
        return contextlib.nullcontext()

    def close(self) -> None:
        """Send what is not sent yet."""


def open_tracing(script: str) -> Tracing:
    """Trace if the environment says so; what is missing for it is told once and stops nothing."""
    exporter = os.environ.get(EXPORTER_VARIABLE, "none").strip()
    if exporter in ("", "none"):
        return Tracing()
    try:
        return _OpenTelemetry(script, exporter)
    except Exception as error:  # noqa: BLE001 - exporters are foreign code; tracing is no reason to stop
        logger.warning(
            "no traces: %s is %r, but %s: %s, and the exporter's package if it has one of its own",
            EXPORTER_VARIABLE,
            exporter,
            error,
            how_to_get("tracing"),
        )
        return Tracing()


class _OpenTelemetry(Tracing):
    """Spans by the OpenTelemetry SDK, sent in batches by a thread of its own."""

    def __init__(self, script: str, exporter: str) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", script)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = self._provider.get_tracer("event-driven-model-serving")
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    @contextlib.contextmanager
    def spans(
        self,
        name: str,
        carriers: Sequence[Any],
        *,
        since: str | None = None,
        root: bool = False,
    ) -> Iterator[None]:
        """See `Tracing.spans`."""
        spans = [
            self._begin(name, carrier, since)
            for carrier in carriers
            if root or TRACE_PARENT in carrier
        ]
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            end = time.time_ns()
            for span in spans:
                if error is not None:
                    span.record_exception(error)
                    span.set_status(self._trace.StatusCode.ERROR)
                span.end(end)

    def _begin(self, name: str, carrier: Carrier, since: str | None) -> Any:
        # A traceparent that is none begins a new trace, as the specification wants it.
        text = str(carrier.get(TRACE_PARENT, ""))
        parent = self._propagator.extract({TRACE_PARENT: text})
        began = seconds_of(carrier.get(since)) if since else None
        span = self._tracer.start_span(
            name, parent, start_time=None if began is None else int(began * NANOSECONDS)
        )
        if "id" in carrier:
            span.set_attribute("image.id", str(carrier["id"]))
        if "model" in carrier:
            span.set_attribute("model.version", str(carrier["model"]))
        headers: dict[str, str] = {}
        self._propagator.inject(headers, self._trace.set_span_in_context(span))
        carrier[TRACE_PARENT] = headers.get(TRACE_PARENT, text)
        return span

    def close(self) -> None:
        """Send what is not sent yet; of a collector that does not take it, not for ever.

        The SDK keeps to no limit where it flushes (its issue 4568), and waits 30 s for its end.
        """
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(LAST_SPANS_SECONDS)
        if sending.is_alive():
            logger.warning("the last spans were not sent within %g s", LAST_SPANS_SECONDS)


def _exporter(name: str) -> Any:
    """Find an installed exporter, as OpenTelemetry's own launcher does."""
    from importlib import metadata  # with all that it needs, a twelfth of a script's start

    found = metadata.entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        raise LookupError(f"no installed package brings the exporter {name!r}")
    return next(iter(found)).load()()

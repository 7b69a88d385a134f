"""Asking one script how it stands: its metrics, and whether it is ready.

Whatever else may be behind a port is told as such: it answers nothing, or without an end, or with
a byte now and then.
"""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from DurableText.codec import CHUNK_BYTES

# A script that does not answer within this is as good as away for one who watches.
SCRAPE_SECONDS = 2.0
# So much is taken of an answer: thousands of models and labels. What is more is none of ours.
MAX_ANSWER_BYTES = 16 << 20


class _BoundedSocket(socket.socket):
    """A connection on which everything has to have come by a deadline, its head included."""

    deadline: float

    def recv_into(self, *arguments: Any) -> int:
        """Receive what has come by then."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)


class _Connection(HTTPConnection):
    """One whose answer is here as soon as others wait for a part of it, or not at all."""

    def connect(self) -> None:
        """Connect; the time for the answer begins."""
        super().connect()
        assert self.timeout is not None, "nothing is asked without"
        bounded = _BoundedSocket(fileno=self.sock.detach())
        bounded.settimeout(self.timeout)
        bounded.deadline = time.monotonic() + self.timeout
        self.sock = bounded


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Connection, request)


# A proxy that the environment names is for the world outside, not for the machines of a pipeline.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Handler())


@dataclass(frozen=True)
class Sample:
    """One scrape: plain values by name (a label in braces), histograms, and labels of infos."""

    at: float
    values: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, dict[float, float]] = field(default_factory=dict)
    infos: dict[str, dict[str, str]] = field(default_factory=dict)
    why_not_ready: str | None = None
    error: str | None = None


def scrape(address: str) -> Sample:
    """Ask one script for its metrics and whether it is ready."""
    try:
        with _opener.open(f"http://{address}/metrics", timeout=SCRAPE_SECONDS) as answer:
            text = _read(answer).decode()
        return parse(text, _why_not_ready(address))
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionRefusedError):
            reason = "away"
        return Sample(time.monotonic(), error=str(reason) or type(reason).__name__)


def _read(answer: HTTPResponse) -> bytes:
    """Read an answer that may have no end, or never come to it.

    Raises:
        OSError: it takes too long: see `_BoundedSocket`.
        ValueError: it is too long.
    """
    parts, size = [], 0
    while part := answer.read1(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ValueError(f"it answers with more than {MAX_ANSWER_BYTES:,} bytes")
    return b"".join(parts)


def parse(text: str, why_not_ready: str | None = None) -> Sample:
    """Read what `/metrics` answered.

    Raises:
        ValueError: it is no answer of Prometheus' kind.
    """
    sample = Sample(time.monotonic(), why_not_ready=why_not_ready)
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name.endswith("_bucket") and "le" in labels:
                buckets = sample.histograms.setdefault(family.name, {})
                buckets[float(labels["le"])] = value
            elif name.endswith("_info"):
                sample.infos[name.removesuffix("_info")] = dict(labels)
            else:
                plain = name.removesuffix("_total")
                shown = ",".join(f'{label}="{each}"' for label, each in labels.items())
                sample.values[f"{plain}{{{shown}}}" if shown else plain] = value
    return sample


def _why_not_ready(address: str) -> str | None:
    try:
        with _opener.open(f"http://{address}/readyz", timeout=SCRAPE_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace").strip() or "not ready"

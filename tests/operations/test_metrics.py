"""What a script tells of itself is true, and telling it harms nobody."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from contextlib import ExitStack, closing, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from DurableText.installation import __version__
from DurableText.moments import timestamp
from Pipeline.observability import metric_table, metrics_server, probe
from Pipeline.observability.live_metrics import LiveMetrics
from Pipeline.observability.metric_table import COUNTERS, Metric
from Pipeline.observability.metrics import Sources
from Pipeline.observability.metrics_server import (
    MAX_CLIENTS,
    MetricsServer,
)
from Pipeline.observability.prediction_mix import MAX_LABELS, MAX_MODELS, OTHER, PredictionMix
from Pipeline.observability.probe import Drain
from Pipeline.observability.waiting import Waiting
from Pipeline.stop import Stop
from Pipeline.tally import Tally
from Queue import QueueError
from tests.brokers.harness import LocalUnderTest
from tests.operations.scripts import get, scrape, wait_until_ready
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline, wait_until
from tests.servers import free_port

COUNT = 300
HOST = "127.0.0.1"


def test_counters_equal_what_the_db_and_the_topics_hold(pipeline: Pipeline) -> None:
    ports = {name: free_port() for name in ("sub", "pub", "app_2")}
    scripts = [
        pipeline.sub("--metrics-port", ports["sub"]),
        pipeline.pub("--metrics-port", ports["pub"]),
        pipeline.app_2("--metrics-port", ports["app_2"]),
    ]
    for script in scripts:
        script.ready()
    broker = pipeline.connect()
    broker.publish(pipeline.images, b"no image").result()
    broker.publish(pipeline.inferences, b"no inference").result()
    twice = b'{"id": "twice", "label": "1"}'
    broker.publish(pipeline.inferences, twice).result()
    broker.publish(pipeline.inferences, twice).result()
    broker.publish(pipeline.inferences, twice.replace(b'"1"', b'"2"')).result()
    pipeline.app_1("--count", COUNT).end()
    pipeline.wait_for_rows(COUNT + 1)
    wait_until(
        lambda: (
            scrape(ports["app_2"]).values.get("serving_db_rows") == COUNT + 1
            and scrape(ports["sub"]).values.get("serving_subscription_backlog_messages") == 0
            and scrape(ports["pub"]).values.get("serving_queue_depth_records") == 0
            and scrape(ports["app_2"]).values.get("serving_messages_received") == COUNT + 4
            and all(letters_in(ports[each]) == 1 for each in ("sub", "app_2"))
        ),
        "everything has arrived, and the gauges know it",
    )

    sub, pub, app_2 = (scrape(ports[name]) for name in ("sub", "pub", "app_2"))
    assert sub.values["serving_messages_received"] == COUNT + 1
    assert sub.values["serving_images_predicted"] == COUNT
    assert sub.values["serving_messages_dead_lettered"] == 1
    assert sub.histograms["serving_inference_seconds"][float("inf")] > 0
    assert sub.infos["serving_model"]["version"] == pipeline.rows()[-1]["model"]
    assert sub.infos["serving_script"] == {
        "script": "model_server_sub",
        "version": __version__,
        "broker": "local",
    }
    [confident] = series(ports["sub"], "serving_prediction_confidence_count").values()
    [confidence] = series(ports["sub"], "serving_prediction_confidence_sum").values()
    assert 0.9 * confident < confidence <= confident == COUNT
    assert sum(labels_of(ports["sub"]).values()) == COUNT
    assert sub.values["serving_drain_seconds"] == pub.values["serving_drain_seconds"] == 0
    assert pub.values["serving_queue_bytes"] > 0 < pub.values["serving_queue_disk_free_bytes"]
    assert app_2.values["serving_db_bytes"] >= pipeline.db.stat().st_size
    assert app_2.values["serving_db_disk_free_bytes"] > 0
    assert pub.values["serving_results_published"] == COUNT
    assert app_2.values["serving_results_stored"] == len(pipeline.rows())
    assert app_2.values["serving_duplicates_suppressed"] == 1
    assert app_2.values["serving_conflicts"] == 1
    assert app_2.values["serving_messages_dead_lettered"] == 1
    # The one that was published without a time has no latency.
    assert app_2.values["serving_end_to_end_latency_seconds_count"] == COUNT
    for topic in (pipeline.images, pipeline.inferences):
        assert broker.backlog(f"{topic}-dead-letter") == 1


def series(port: int, metric: str) -> dict[str, float]:
    """Return the series of a metric, by their labels as they are written."""
    lines = re.findall(rf"^{metric}{{(.*)}} (\S+)$", get(port, "/metrics")[1], re.MULTILINE)
    return {labels: float(value) for labels, value in lines}


def letters_in(port: int) -> float:
    return sum(series(port, "serving_dead_letters").values())


def labels_of(port: int) -> dict[str, float]:
    return series(port, "serving_predictions_total")


def test_app_1_counts_what_it_reports(pipeline: Pipeline) -> None:
    port = free_port()
    app_1 = pipeline.app_1("--count", 100_000, "--rate", 100, "--metrics-port", port)
    wait_until(lambda: get(port, "/metrics")[0] == 200, "it serves")
    wait_until(lambda: scrape(port).values.get("serving_images_published", 0) > 50, "some are out")
    before = len(pipeline.ids())
    published = scrape(port).values["serving_images_published"]
    app_1.terminate()
    assert before <= published <= len(pipeline.ids())


def test_a_port_in_use_is_told_once_and_taken_when_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        server = MetricsServer((HOST, port), CollectorRegistry(), lambda: None)
        assert f"port {port} cannot be had" in caplog.text
    with closing(server):
        wait_until(lambda: get(port, "/healthz") == (200, "alive\n"), "it has the port now")
        assert len(caplog.records) == 2, caplog.text


@pytest.mark.parametrize(
    ("host", "answers", "is_deaf"),
    [("127.0.0.1", "127.0.0.1", "127.0.0.2"), ("::1", "[::1]", "127.0.0.1"),
     ("::", "127.0.0.1", ""), ("0.0.0.0", "127.0.0.2", "[::1]")],
)  # fmt: skip
def test_the_port_listens_where_it_is_told_to(host: str, answers: str, is_deaf: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    with closing(MetricsServer((host, port), CollectorRegistry(), lambda: None)):
        assert get(port, "/healthz", answers) == (200, "alive\n")
        if is_deaf:
            assert get(port, "/healthz", is_deaf) == (0, "")


def test_all_addresses_are_those_of_ipv4_on_a_machine_without_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    port = free_port()
    with closing(MetricsServer(("::", port), CollectorRegistry(), lambda: None)):
        assert get(port, "/healthz") == (200, "alive\n")
        assert get(port, "/healthz", "[::1]") == (0, "")


def test_what_drains_says_how_long_it_takes() -> None:
    now = [0.0]
    drain = Drain(lambda: now[0])

    def look(at: float, waiting: float | None) -> float | None:
        now[0] = at
        return drain.seconds(waiting)

    assert look(0.0, 100) is None  # nobody can tell yet
    assert look(10.0, 80) == 40.0  # 2 a second
    assert look(20.0, 120) == math.inf  # more arrives than is consumed
    assert look(90.0, 120) == math.inf
    assert look(100.0, 0) == 0.0
    assert look(110.0, None) is None  # the broker cannot tell, or is away


def test_what_is_in_work_at_a_steady_load_is_no_backlog_that_grows() -> None:
    """Else a healthy server at 100 images a second asked for more servers at every other look."""
    now = [0.0]
    drain = Drain(lambda: now[0])
    looks = [(0.0, 12, 0), (5.0, 30, 500), (10.0, 30, 1000), (15.0, 190, 1500)]
    found = []
    for now[0], waiting, through in looks:
        found.append(drain.seconds(waiting, through))
    assert found == [None, 0.3, 0.3, 1.9]
    now[0] = 20.0
    assert drain.seconds(690, 1500) == math.inf  # it does no longer do anything
    now[0] = 30.0
    assert drain.seconds(590, 2600) == math.inf  # more arrives than is consumed, in the last minute


def test_what_models_say_is_counted_in_bounded_memory() -> None:
    mix = PredictionMix()
    for model in range(MAX_MODELS + 1):
        mix.add({"model": f"m@{model}", "label": str(each)} for each in range(MAX_LABELS + 5))
    mix.add([{"model": "m@8", "confidence": 0.5}, {"model": "m@8", "label": "0"}])
    counts, confidence = mix.families()
    assert len({each.labels["model"] for each in counts.samples}) == MAX_MODELS
    last = {each.labels["label"]: each.value for each in counts.samples
            if each.labels["model"] == "m@8"}  # fmt: skip
    assert (last["0"], last["1"], last[OTHER]) == (2, 1, 5)
    assert {each.value for each in confidence.samples if each.labels["model"] == "m@8"} == {1, 0.5}


def test_a_script_runs_where_its_metrics_port_is_taken(pipeline: Pipeline) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        app_1 = pipeline.app_1("--count", 10, "--metrics-port", other.getsockname()[1])
        assert app_1.end().startswith("app_1: 10 of 10")
    assert app_1.output.count("cannot be had") == 1


@pytest.mark.parametrize("sends", [b"", b"x"], ids=["nothing", "a byte now and then"])
def test_clients_that_hang_are_cut_off_and_hold_up_nobody(sends: bytes) -> None:
    port = free_port()
    server = MetricsServer((HOST, port), CollectorRegistry(), lambda: None, client_seconds=1.0)
    with ExitStack() as hanging:
        clients = []
        for _ in range(2 * MAX_CLIENTS):
            client = hanging.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
            clients.append(client)
        assert get(port, "/healthz") == (200, "alive\n")

        deadline = time.monotonic() + 10.0
        while not all(map(is_cut_off, clients)):
            assert time.monotonic() < deadline
            for client in clients:
                with suppress(OSError):
                    client.sendall(sends)
            time.sleep(0.1)
        hanging.enter_context(socket.create_connection(("127.0.0.1", port)))
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 5.0  # it waits for none of them


def test_a_client_that_cannot_be_accepted_is_tried_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The port stays readable while this process may open no more files."""
    pauses: list[float] = []
    monkeypatch.setattr(metrics_server, "time", Namespace(sleep=pauses.append))
    no_file = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    monkeypatch.setattr(ThreadingHTTPServer, "get_request", Mock(side_effect=no_file))
    with (
        metrics_server._Server((HOST, 0), metrics_server._Handler, 1.0) as server,
        pytest.raises(OSError),
    ):
        server.get_request()
    assert pauses == [metrics_server.NO_FILE_SECONDS]


def is_cut_off(client: socket.socket) -> bool:
    """Tell whether the server has closed a connection on which it has nothing to say."""
    client.setblocking(False)
    try:
        return client.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_scrape_asks_for_the_format_and_compression_it_wants() -> None:
    port = free_port()
    with closing(MetricsServer((HOST, port), CollectorRegistry(), lambda: None)):
        asked = "-H", "Accept: application/openmetrics-text; version=1.0.0"
        command = ["curl", "-si", "--compressed", *asked, f"http://127.0.0.1:{port}/metrics"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("curl is not installed")
    assert "Content-Type: application/openmetrics-text" in answer
    assert "Content-Encoding: gzip" in answer
    assert answer.rstrip().endswith("# EOF")


def test_a_script_is_ready_only_while_it_works_and_its_broker_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("Pipeline.observability.probe.INTERVAL_SECONDS", 0.05)
    port, stop, embedded = free_port(), Stop(), LocalUnderTest()
    embedded.start()
    broker, topic = embedded.connect_with_topic()
    with (
        LiveMetrics("app_1", (HOST, port), stop, Waiting()) as metrics,
        broker.subscribe(topic) as subscription,
    ):
        assert get(port, "/readyz") == (503, "starting\n")
        with metrics.follow(Sources(broker, subscription), Tally()):
            wait_until_ready(port)
            with embedded.outage():
                wait_until(lambda: get(port, "/readyz")[0] == 503, "it is not ready")
                assert get(port, "/healthz") == (200, "alive\n")
            wait_until_ready(port)
            stop.request()
            assert get(port, "/readyz") == (503, "draining\n")
    embedded.end_of_test()
    embedded.stop()


class Slow:
    """A DB that counts, or a queue that looks, until it may end."""

    path = None

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def count(self) -> int:
        self.begun.set()
        self.may_end.wait(PATIENCE_SECONDS)
        return 7

    def status(self) -> None:
        self.count()
        raise QueueError("no more")


@pytest.mark.parametrize("what", ["db", "queue"])
def test_who_takes_long_is_named_and_a_long_count_hangs_nobody(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows by the ten million take longer to count than a broker may hang unnoticed."""
    slow, port, embedded = Slow(), free_port(), LocalUnderTest()
    monkeypatch.setattr(probe, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(probe, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(probe, "open_database", lambda *_, **__: slow)
    monkeypatch.setattr(probe, "open_queue", lambda *_, **__: slow)
    embedded.start()
    broker, _ = embedded.connect_with_topic()
    with (
        LiveMetrics("app_2", (HOST, port), Stop(), Waiting()) as metrics,
        metrics.follow(Sources(broker, **{what: "somewhere"}), Tally()),
    ):
        assert slow.begun.wait(PATIENCE_SECONDS)
        if what == "queue":
            says = (503, "the queue does not answer\n")
            wait_until(lambda: get(port, "/readyz") == says, "it says so")
            assert scrape(port).values['serving_waiting{reason="broker"}'] == 0
        else:
            slow.may_end.wait(3 * probe.STALE_SECONDS)
            wait_until_ready(port)
            assert "serving_db_rows" not in scrape(port).values
        slow.may_end.set()
        wait_until_ready(port)
        if what == "db":
            wait_until(lambda: scrape(port).values.get("serving_db_rows") == 7, "they are counted")
    embedded.end_of_test()
    embedded.stop()


def test_a_clock_that_jumps_makes_no_negative_latency() -> None:
    with LiveMetrics("app_2", (HOST, 0), Stop(), Waiting()) as metrics:
        metrics.stored([{"published_at": "2999-01-01T00:00:00Z"}, {"published_at": timestamp()}])
        metrics.stored([{"published_at": "no time"}, {"published_at": None}, {}])
        assert sum(metrics._latencies._counts) == 2
        assert 0.0 <= metrics._latencies.sum < 60.0


def test_without_a_port_nothing_of_prometheus_is_imported() -> None:
    code = "import app_1, app_2, model_server_pub, sys; print('prometheus_client' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_the_documentation_names_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"`(serving_\w+)", text))
    counters = {each.name for script in COUNTERS.values() for each in script.values()}
    others = {each.name for each in vars(metric_table).values() if isinstance(each, Metric)}
    known = {re.sub("_(total|info|bucket|sum|count)$", "", name) for name in named}
    assert known == counters | others

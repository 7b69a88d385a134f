"""A trace leads through all stages; a log line is one line."""

from __future__ import annotations

import json
import logging
import re
import socket
from typing import Any

import pytest

from DurableText.installation import __version__
from MessageBroker import OutgoingMessage
from Pipeline.observability.waiting import Reason, Waiting
from Pipeline.script.logs import configure_logging
from Pipeline.script.waiting import wait_out
from Pipeline.serving.image_source import ImageSource
from Pipeline.stop import Stop
from tests.pipeline.runner import Pipeline, Script

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def send(pipeline: Pipeline, *trace_parents: str, **environment: str) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    image = next(iter(ImageSource([], 1))).data
    for parent in trace_parents:
        message = OutgoingMessage(image, attributes={"traceparent": parent})
        broker.publish_batch(pipeline.images, [message])
    scripts = [
        pipeline.start("model_server_sub", "--queue", pipeline.queue, **environment),
        pipeline.start("model_server_pub", "--queue", pipeline.queue, **environment),
        pipeline.start("app_2", "--db", pipeline.db, **environment),
    ]
    pipeline.wait_for_rows(len(trace_parents))
    for script in scripts:
        script.ready().terminate()


def test_the_trace_context_passes_through_untouched_when_nobody_traces(pipeline: Pipeline) -> None:
    send(pipeline, PARENT, "nonsense")
    assert [row["traceparent"] for row in pipeline.rows()] == [PARENT, "nonsense"]


def test_each_stage_adds_its_span_below_the_one_before(pipeline: Pipeline) -> None:
    send(pipeline, PARENT, "nonsense", OTEL_TRACES_EXPORTER="console")
    first, second = (row["traceparent"] for row in pipeline.rows())
    parent = PARENT.split("-")[2]
    for script, name in zip(
        pipeline.scripts, ("classify image", "publish result", "store result"), strict=True
    ):
        own, above = span_of(script.output, name, TRACE_ID)
        assert above == parent
        parent = own
    assert first.split("-")[1:3] == [TRACE_ID, parent]
    assert TRACE_ID not in second  # what was no context begins a new trace


def span_of(output: str, name: str, trace_id: str) -> tuple[str, str]:
    """The id of a span that was printed, and its parent's."""
    for text in re.findall(r"^\{.*?^\}", output, re.MULTILINE | re.DOTALL):
        span = json.loads(text)
        if span["name"] == name and span["context"]["trace_id"] == f"0x{trace_id}":
            return span["context"]["span_id"][2:], span["parent_id"][2:]
    raise AssertionError(f"no span {name!r} in: {output}")


def test_an_exporter_that_is_missing_is_told_once_and_stops_nothing(pipeline: Pipeline) -> None:
    send(pipeline, PARENT, OTEL_TRACES_EXPORTER="nobody")
    assert pipeline.rows()[0]["traceparent"] == PARENT
    assert pipeline.scripts[0].output.count("no installed package brings the exporter") == 1


def test_a_collector_that_never_answers_keeps_no_script_from_its_end(pipeline: Pipeline) -> None:
    with socket.socket() as collector:  # takes connections, and no more
        collector.bind(("127.0.0.1", 0))
        collector.listen()
        app_1 = pipeline.start(
            "app_1", "--count", 3,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.getsockname()[1]}",
        )  # fmt: skip
        app_1.end()
    assert app_1.output.count("the last spans were not sent within 5 s") == 1


@pytest.fixture
def _restored_logging() -> object:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_restored_logging")
def test_a_name_from_elsewhere_forges_no_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("app_2", "info", "text")
    logging.getLogger("test").warning(
        "bad file %s", "a\n2026-01-01 00:00:00 ERROR forged\x1b[31m ü"
    )
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert line.endswith("ü")


@pytest.mark.usefixtures("_restored_logging")
def test_json_logs_are_one_object_a_line_with_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("app_2", "info", "json")
    logging.getLogger("test").warning("two\nlines", extra={"model": "m@1"})
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning", "script": "app_2", "version": __version__, "logger": "test",
        "message": "two\nlines", "model": "m@1",
    }  # fmt: skip


def test_the_last_words_of_a_script_are_json_too(pipeline: Pipeline) -> None:
    script = pipeline.start("model_server_sub", "--log-format", "json", "--checkpoint", "none.h5")
    assert script.process.wait(60) == 2
    told = [json.loads(line) for line in script.output.splitlines()]
    assert [line["level"] for line in told] == ["info", "error"]
    assert all("none.h5" in line["message"] for line in told)


def test_an_event_has_fields_that_a_collector_can_count(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    for topic in (pipeline.images, pipeline.inferences):
        broker.create_topic(topic)
    broker.publish(pipeline.images, b"no image").result()
    broker.publish(pipeline.inferences, b"no result").result()
    json_logs = "--log-format", "json"
    sub, first = pipeline.sub(*json_logs), pipeline.app_2(*json_logs)
    letters = [event_of(sub, "dead-letter"), event_of(first, "dead-letter")]
    assert [each["reason"] for each in letters] == ["undecodable image", "no inference event"]
    assert all(each["number"] == 1 and each["error"] and each["message_id"] for each in letters)

    pub = pipeline.pub().ready()
    standbys = [start(*json_logs).says("standing by") for start in (pipeline.pub, pipeline.app_2)]
    pub.kill()
    first.kill()
    for standby, file in zip(standbys, (pipeline.queue, pipeline.db), strict=True):
        told = event_of(standby, "take-over")
        assert told["file"] == str(file)
        assert told["seconds"] >= 0


def test_what_is_waited_out_is_told_at_its_beginning_and_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([OSError("full"), OSError("full"), None])

    def attempt() -> bool:
        error = next(answers)
        if error:
            raise error
        return True

    assert wait_out({OSError: Reason.QUEUE}, attempt, Stop(), Waiting(), pause_seconds=0.01) is True
    begin, end = (vars(record) for record in caplog.records)
    assert (begin["event"], begin["trouble"]) == ("waiting", "OSError")
    assert end["event"] == "waited"
    assert end["seconds"] > 0


def test_nothing_is_tried_any_more_once_the_grace_of_a_stop_is_over() -> None:
    """An engine that hangs takes seconds to find out, for each batch that is on its way."""
    stop = Stop(grace_seconds=0.0)
    stop.request()
    tried: list[int] = []

    assert wait_out({OSError: Reason.QUEUE}, lambda: tried.append(1), stop, Waiting()) is None

    assert not tried


def event_of(script: Script, event: str) -> dict[str, Any]:
    """The fields of the first line of this event, once it is there."""
    script.says(f'"event": "{event}"')
    lines = [line for line in script.output.splitlines() if f'"event": "{event}"' in line]
    told: dict[str, Any] = json.loads(lines[0])
    return told

"""The documents of the contract are what the code says, valid, and true of what is published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from MessageBroker import Message
from Pipeline.contract.fields import RESULT
from Pipeline.contract.schemas import schemas
from Pipeline.events import ImageOrigin, image_origin, inference_record
from tests.contract.documents import ROOT, documents
from tests.pipeline.runner import Pipeline, dead_letters
from tests.waiting import wait_until

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

TOOLS = ROOT / ".tools" / "node_modules" / "@asyncapi"
GET_THEM = "npm install --prefix .tools @asyncapi/specs@6.11.1 @asyncapi/parser@3.6.6"
MOMENT = "2026-01-01T12:00:00.000Z"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# Ends with 1 where the parser of AsyncAPI finds an error.
PARSE = """
const {Parser} = require(process.argv[1]);
const text = require('fs').readFileSync(process.argv[2], 'utf8');
new Parser().parse(text).then(({diagnostics}) => {
  const errors = diagnostics.filter(each => each.severity === 0);
  console.log(JSON.stringify(errors));
  process.exit(errors.length ? 1 : 0);
});
"""


def tool(name: str) -> Path:
    """Find one of AsyncAPI's own tools; where it is missing, skip, but never in CI."""
    if not (TOOLS / name).exists():
        assert not os.environ.get("CI"), f"@asyncapi/{name} is missing: {GET_THEM}"
        pytest.skip(f"to check against the official schema: {GET_THEM}")
    return TOOLS / name


def asyncapi() -> Any:
    return yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())


def validator(schema: Any) -> Draft202012Validator:
    """Check formats, too: `date-time` by rfc3339-validator.

    Imported here: its grammars take seconds, in each process that reads this file.
    """
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_formats_are_checked() -> None:
    assert not validator({"format": "date-time"}).is_valid("20260101T120000Z")


def headers_and_payload(message: str) -> Iterator[Draft202012Validator]:
    components = asyncapi()["components"]
    for part in ("headers", "payload"):
        schema = components["messages"][message][part]
        if "$ref" in schema:
            schema = components["schemas"][schema["$ref"].rpartition("/")[2]]
        yield validator(schema)


def test_the_documents_are_up_to_date() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m tests.contract`"


@pytest.mark.soak
def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    from jsonschema import Draft7Validator

    schema = json.loads((tool("specs") / "schemas" / "3.0.0.json").read_text())
    assert [each.message for each in Draft7Validator(schema).iter_errors(asyncapi())] == []


@pytest.mark.soak
def test_the_asyncapi_document_is_valid_by_the_official_parser() -> None:
    command = [shutil.which("node") or "node", "-e", PARSE, tool("parser")]
    done = subprocess.run(
        [*command, ROOT / "docs" / "asyncapi.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_that_is_written_is_told() -> None:
    origin = ImageOrigin("1", "a.png", "7", MOMENT, TRACE)
    record = inference_record(
        origin, model="m@1", received_at=MOMENT, predicted_at=MOMENT,
        answer={
            "label": "7", "class_index": 7, "confidence": 0.5,
            "top": [{"label": "7", "probability": 0.5}],
        },
    )  # fmt: skip
    assert set(record) <= {each.name for each in RESULT}
    validator(schemas()["inference.v1"]).validate(record)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ce_time": "20260101T120000Z", "traceparent": "none"},
        {"ce_time": "2026-01-01 12:00:00Z", "traceparent": TRACE.upper()},
        {"ce_time": "2026-01-01t12:00:00.5+01:00", "traceparent": f"{TRACE}-more"},
        {"ce_time": "2026-W01-4T12:00:00Z", "ce_subject": "", "ce_expectedlabel": "\0"},
        {"ce_time": "yesterday", "ce_id": "", "ce_source": ""},
    ],
)
def test_whatever_a_foreign_program_writes_the_result_of_its_image_is_valid(
    attributes: dict[str, str],
) -> None:
    message = Message("1-2-3", b"", attributes, None, "images", datetime(2026, 1, 1, tzinfo=UTC))
    record = inference_record(
        image_origin(message, "kafka"), answer={"label": "7"}, model="m@1", received_at=MOMENT,
        predicted_at=MOMENT,
    )  # fmt: skip
    validator(schemas()["inference.v1"]).validate(record)


def test_the_shipped_side_file_is_valid() -> None:
    [side_file] = (ROOT / "Modelling" / "model_checkpoints").glob("*.json")
    validator(schemas()["side-file.v1"]).validate(json.loads(side_file.read_text()))


def test_every_message_and_line_that_a_run_leaves_is_valid(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    for topic in (pipeline.images, pipeline.inferences):
        broker.create_topic(topic)
    with (
        broker.subscribe(pipeline.images, f"{pipeline.images}-audit") as images,
        broker.subscribe(pipeline.inferences, f"{pipeline.inferences}-audit") as inferences,
    ):
        broker.publish(pipeline.images, b"no image").result()
        broker.publish(pipeline.inferences, b"no result").result()
        scripts = [pipeline.sub("--top", 3), pipeline.app_2()]
        pipeline.app_1("--count", 20).end()
        wait_until(lambda: pipeline.queue.exists(), "results are queued")
        sub, app_2 = (each.ready() for each in scripts)
        wait_until(lambda: pipeline.queue.read_bytes().count(b"\n") >= 20, "all are queued")
        queued = [json.loads(line) for line in pipeline.queue.read_bytes().splitlines()]
        pub = pipeline.pub()
        pipeline.wait_for_rows(20)
        conflict = {**queued[0], "label": "another"}
        body = json.dumps({name: conflict[name] for name in conflict if name not in ("seq", "crc")})
        broker.publish(pipeline.inferences, body.encode()).result()
        conflicts = pipeline.db.with_name("db.conflicts.txt")
        wait_until(conflicts.exists, "the conflict is kept")
        check("image", received(images, 21)[1:])
        check("inference", received(inferences, 22)[1:-1])
        check("imageLetter", dead_letters(broker, pipeline.images, 1))
        check("inferenceLetter", dead_letters(broker, pipeline.inferences, 1))
    for script in (sub, pub, app_2):
        script.terminate()
    check_lines("queue-record.v1", queued)
    check_lines("db-row.v1", pipeline.rows())
    check_lines(
        "db-conflict.v1", [json.loads(line) for line in conflicts.read_bytes().splitlines()]
    )


def received(subscription: Any, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        messages += subscription.receive(count - len(messages), 10.0)
    subscription.ack(messages)
    return messages


def check(name: str, messages: list[Message]) -> None:
    headers, payload = headers_and_payload(name)
    assert messages
    for message in messages:
        headers.validate(message.attributes)
        if name == "inference":
            payload.validate(json.loads(message.data))


def check_lines(name: str, lines: list[Any]) -> None:
    assert lines
    for line in lines:
        validator(schemas()[name]).validate(line)

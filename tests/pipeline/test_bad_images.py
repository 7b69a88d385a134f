"""What is no image goes to the dead-letter topic with its bytes, and holds nobody up."""

from __future__ import annotations

import base64
import io
import pickle
import signal
import uuid
from pathlib import Path

import numpy as np
import orjson
import pytest

from MessageBroker import OutgoingMessage
from Modelling.data_preparation import bundled_test_images, encode_npy
from Pipeline.events import IMAGE_TYPE, INFERENCE_TYPE
from tests.pipeline.runner import PATIENCE_SECONDS, Pipeline, dead_letters, wait_until
from tests.queue.of_dicts import FileQueue


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


GOOD = encode_npy(bundled_test_images()[0][0])
BAD = {
    "empty": b"",
    "text": b"seven",
    "pickle": pickle.dumps([1, 2, 3]),
    "pickle in npy clothes": npy(np.array([{"a": 1}], dtype=object)),
    "truncated array": GOOD[:-100],
    "truncated png": b"\x89PNG\r\n\x1a\n" + b"\0" * 20,
    "not a number": npy(np.full((28, 28), np.nan, np.float32)),
    "infinite": npy(np.full((28, 28), np.inf, np.float32)),
    "wrong shape": npy(np.zeros((2, 3, 4, 5), np.uint8)),
    "complex": npy(np.ones((28, 28), np.complex64)),
    "no pixels": npy(np.zeros((0, 28), np.uint8)),
}


# Of CloudEvents in structured mode, on either topic, and in batched mode, which is refused.
EVENT = {"specversion": "1.0", "id": "42", "source": "/scanner"}
STRUCTURED_IMAGE = {**EVENT, "type": IMAGE_TYPE, "data_base64": base64.b64encode(GOOD).decode()}
STRUCTURED_RESULT = {**EVENT, "type": INFERENCE_TYPE, "data": {"id": "structured", "label": "7"}}


def event(case: str, body: object, mode: str = "cloudevents") -> OutgoingMessage:
    attributes = {"case": case, "content-type": f"application/{mode}+json"}
    return OutgoingMessage(orjson.dumps(body), attributes=attributes)


def test_rubbish_is_dead_lettered_with_its_bytes_and_a_reason_and_the_rest_goes_on(
    pipeline_on_each_broker: Pipeline,
) -> None:
    pipeline = pipeline_on_each_broker
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    messages = [OutgoingMessage(data, attributes={"case": case}) for case, data in BAD.items()]
    messages += [OutgoingMessage(GOOD, attributes={"case": f"good {i}"}) for i in range(50)]
    messages += [
        event("structured", STRUCTURED_IMAGE),
        event("batched", [STRUCTURED_IMAGE], "cloudevents-batch"),
    ]
    broker.create_topic(pipeline.inferences)
    broker.publish_batch(pipeline.images, messages)
    broker.publish_batch(
        pipeline.inferences,
        [
            event("structured", STRUCTURED_RESULT),
            event("batched", [STRUCTURED_RESULT], "cloudevents-batch"),
        ],
    )
    for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
        script.ready()

    pipeline.wait_for_rows(52)
    [refused] = dead_letters(broker, pipeline.inferences, 1)
    assert "batched mode" in refused.attributes["dead_letter_error"]
    letters = dead_letters(broker, pipeline.images, len(BAD) + 1)
    [batched] = [each for each in letters if each.attributes["case"] == "batched"]
    assert "batched mode" in batched.attributes["dead_letter_error"]
    letters.remove(batched)
    assert {"/scanner#42", "structured"} <= {row["id"] for row in pipeline.rows()}
    assert {letter.attributes["case"]: letter.data for letter in letters} == BAD
    for letter in letters:
        assert letter.attributes["dead_letter_reason"] == "undecodable image"
        assert letter.attributes["dead_letter_error"]
        assert letter.attributes["dead_letter_source_topic"] == pipeline.images
    assert {row["label"] for row in pipeline.rows()} == {"7"}


def test_an_image_without_attributes_has_the_same_id_each_time_it_is_delivered(
    pipeline: Pipeline,
) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    broker.publish(pipeline.images, GOOD).result()
    other_queue = pipeline.folder / "other" / "log.txt"
    other_id = pipeline.broker.unused_name("other")
    first = pipeline.start(
        "model_server_sub", "--queue", other_queue, "--subscription", other_id
    ).ready()
    broker.publish(pipeline.images, GOOD).result()
    wait_until(
        lambda: (
            (pipeline.folder / "other" / "log.txt").exists()
            and (pipeline.folder / "other" / "log.txt").read_bytes().count(b"\n") == 1
        ),
        "the second subscription's result",
    )
    first.terminate()
    pipeline.sub("--exit-when-idle", 1).end()
    own = [line.split(b'"id":"')[1][:36] for line in pipeline.queue.read_bytes().splitlines()]
    other = other_queue.read_bytes().split(b'"id":"')[1][:36]
    assert len(own) == 2
    assert own[1] == other


def test_what_is_no_inference_event_is_dead_lettered_by_app_2(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.inferences)
    bad = {
        "no json": b"{",
        "no object": b"[1]",
        "no id": b'{"label": "7"}',
        "no label": b'{"id": "a"}',
        "label of no text": b'{"id": "a", "label": 7}',
        "not UTF-8": b'{"id": "\xff", "label": "7"}',
    }
    broker.publish_batch(
        pipeline.inferences,
        [OutgoingMessage(data, attributes={"case": case}) for case, data in bad.items()]
        + [
            OutgoingMessage(b'{"id": "ok", "label": "7"}'),
            OutgoingMessage(b'{"id": "x", "label": "7"}', attributes={"ce_type": "other.v1"}),
        ],
    )
    app_2 = pipeline.app_2().ready()
    letters = dead_letters(broker, pipeline.inferences, len(bad) + 1)
    assert {each.attributes.get("case"): each.data for each in letters} == {
        **bad,
        None: b'{"id": "x", "label": "7"}',
    }
    app_2.terminate()
    assert [row["id"] for row in pipeline.rows()] == ["ok"]


def test_a_corrupt_line_in_the_queue_is_dead_lettered_by_the_publisher(pipeline: Pipeline) -> None:
    pipeline.app_1("--count", 3).end()
    pipeline.sub("--exit-when-idle", 1).end()
    lines = pipeline.queue.read_bytes().splitlines(keepends=True)
    rotten = lines[1].replace(b'"label":"2"', b'"label":"3"')
    pipeline.queue.write_bytes(lines[0] + rotten + lines[2])
    pipeline.pub("--exit-when-idle", 2).end()
    [letter] = dead_letters(pipeline.connect(), pipeline.inferences, 1)
    assert letter.data == rotten.rstrip(b"\n")
    assert letter.attributes["dead_letter_reason"] == "corrupt line in the queue"
    pipeline.app_2("--exit-when-idle", 1).end()
    assert [row["source"] for row in pipeline.rows()] == ["mnist-test/0", "mnist-test/2"]


def test_a_flood_of_corrupt_lines_is_told_in_two_lines(pipeline: Pipeline) -> None:
    with FileQueue(pipeline.queue) as queue:
        queue.put([{"id": "a", "label": "7"}])
    with pipeline.queue.open("ab") as log:
        log.write(b"junk\n" * 300)
    pub = pipeline.pub("--exit-when-idle", 2)
    assert pub.end().endswith("300 dead-lettered")
    [dead, kept] = [said for said in pub.output.splitlines() if "torn or overwritten" in said]
    assert "300 dead-lettered: corrupt line in the queue" in dead
    assert "and 299 more lines, the last in log.txt" in kept


def test_a_foreign_image_with_a_very_long_id_is_stored_like_any_other(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    attributes = {"ce_id": "i" * 1000, "ce_source": "s" * 1000}
    broker.publish(pipeline.images, GOOD, attributes=attributes).result()
    scripts = [pipeline.sub(), pipeline.pub(), pipeline.app_2()]
    pipeline.wait_for_rows(1)
    for script in scripts:
        script.ready().terminate()
    assert uuid.UUID(pipeline.rows()[0]["id"]).version == 5


def test_a_result_that_cannot_be_published_is_dead_lettered_and_the_rest_goes_on(
    pipeline: Pipeline,
) -> None:
    long = "x" * 2000
    records = [{"id": "a", "label": "7"}, {"id": long, "label": "7"}, {"id": "b", "label": "7"}]
    with FileQueue(pipeline.queue) as queue:
        queue.put(records)
    line = pipeline.pub("--exit-when-idle", 2).end()
    assert line.startswith("model_server_pub: 2 results published")
    assert line.endswith("1 dead-lettered")
    [letter] = dead_letters(pipeline.connect(), pipeline.inferences, 1)
    assert orjson.loads(letter.data)["id"] == long
    assert letter.attributes["dead_letter_reason"] == "cannot be published"
    assert "1,024 are the most" in letter.attributes["dead_letter_error"]
    pipeline.app_2("--exit-when-idle", 1).end()
    assert [row["id"] for row in pipeline.rows()] == ["a", "b"]
    assert pipeline.pub("--exit-when-idle", 1).end().startswith("model_server_pub: 0 results")


# Stand for native code that brings the process down, or never comes back: the test cannot publish
# a real such image.
KILLER = """
import os, signal, threading
from Modelling import predict_cnn
prepare_batch = predict_cnn.Classifier.prepare_batch
def prepare_or_fall(self, datas, *more):
    if b"kills" in datas:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"hangs" in datas:
        threading.Event().wait()
    return prepare_batch(self, datas, *more)
predict_cnn.Classifier.prepare_batch = prepare_or_fall
"""
KILLED = -signal.SIGKILL
LEASE_SECONDS = 4


def ids_in(queue: Path) -> set[str]:
    """Tell which results are in a queue; what was in flight at a crash may be there twice."""
    return {orjson.loads(line)["id"] for line in queue.read_bytes().splitlines()}


@pytest.mark.parametrize(("poison", "exit_code"), [(b"kills", KILLED), (b"hangs", 1)])
def test_an_image_that_ends_the_server_is_dead_lettered_after_four_times_and_no_other_is(
    pipeline: Pipeline, tmp_path: Path, poison: bytes, exit_code: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    pipeline.set_delivery(max_lease_seconds=LEASE_SECONDS)
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    messages = [OutgoingMessage(GOOD)] * 20 + [OutgoingMessage(poison)]
    messages += [OutgoingMessage(GOOD)] * 20
    broker.publish_batch(pipeline.images, messages)
    root = str(Path(__file__).resolve().parents[2])
    for _crash in range(4):
        sub = pipeline.sub(PYTHONPATH=f"{tmp_path}:{root}")
        assert sub.process.wait(PATIENCE_SECONDS) == exit_code, sub.output
        if exit_code == 1:
            assert "worked on for more than max_lease_seconds (4)" in sub.output
    sub = pipeline.sub(PYTHONPATH=f"{tmp_path}:{root}").says("1 dead-lettered")
    wait_until(lambda: len(ids_in(pipeline.queue)) == 40, "the good ones are there")
    sub.terminate()
    [letter] = dead_letters(broker, pipeline.images, 1)
    assert letter.data == poison
    assert letter.attributes["dead_letter_reason"] == "killed the model server"
    pipeline.pub("--exit-when-idle", 1).end()
    pipeline.app_2("--exit-when-idle", 1).end()
    assert pipeline.stored() == 40


# A model that does not answer, though every image is good.
SILENT_MODEL = """
import threading
from Modelling import predict_cnn
predict_cnn.Classifier.predict = lambda self, *arguments: threading.Event().wait()
"""


def test_a_model_that_does_not_answer_ends_the_server_and_counts_where_a_limit_is_set(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SILENT_MODEL)
    pipeline.app_1("--count", 3).end()
    root = str(Path(__file__).resolve().parents[2])
    sub = pipeline.sub("--predict-timeout", 1, PYTHONPATH=f"{tmp_path}:{root}")
    sub.end(1)
    assert "the model has not answered within --predict-timeout (1.0 s)" in sub.output
    journal = orjson.loads(pipeline.queue.with_name("log.in_flight.0.json").read_bytes())
    assert len(journal["in_flight"]) == 3
    assert pipeline.sub("--exit-when-idle", 1).end().startswith("model_server_sub: 3 images")


def test_results_that_the_db_refuses_and_junk_cost_a_batch_one_line_and_no_neighbour(
    pipeline: Pipeline,
) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.inferences)
    good = [{"id": f"good-{number}", "label": "7"} for number in range(190)]
    refused = [{"id": f"refused-{number}", "label": "7", "crc": number} for number in range(10)]
    bodies = [orjson.dumps(each) for each in good + refused]
    bodies += [b" " * number + b"junk" for number in range(50)]  # wrong in another place each
    broker.publish_batch(pipeline.inferences, [OutgoingMessage(each) for each in bodies])

    app_2 = pipeline.app_2("--exit-when-idle", 1, "--batch-size", 250)
    line = app_2.end()

    assert line.startswith("app_2: 190 results stored")
    assert line.endswith("60 dead-lettered")
    assert {row["id"] for row in pipeline.rows()} == {each["id"] for each in good}
    letters = dead_letters(broker, pipeline.inferences, 60)
    errors = {each.data: each.attributes["dead_letter_error"] for each in letters}
    assert set(errors) == set(bodies[190:])
    assert all("no JSON" in errors[each] for each in bodies[200:])
    assert all("'crc'" in errors[each] for each in bodies[190:200])
    assert app_2.output.count(" dead-lettered: ") <= 2  # a line a batch, not one a message

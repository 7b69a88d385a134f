"""Models of all kinds through the whole pipeline, and predictors that break their word."""

from __future__ import annotations

import io
import json

import numpy as np
import psutil
import pytest
from PIL import Image

from examples.colours_onnx import write
from examples.iris import MEASURES
from MessageBroker import OutgoingMessage
from Modelling.data_preparation import encode_npy
from tests.modelling.foreign import SIDE, endless_onnx, nan_on_black, one_of_each_colour
from tests.pipeline.runner import PATIENCE_SECONDS, Pipeline, dead_letters, wait_until
from tests.pipeline.serving import run

# Seconds of CPU: all imports take fewer.
ALL_BUT_THE_NETWORK = 4.0


def test_rows_of_irises_are_served_by_a_scikit_learn_pipeline(pipeline: Pipeline) -> None:
    setosa = dict(zip(MEASURES, (5.1, 3.5, 1.4, 0.2), strict=True))
    virginica = dict(zip(MEASURES, (6.3, 3.3, 6.0, 2.5), strict=True))
    bodies = [json.dumps(setosa).encode(), b"no row", json.dumps(virginica).encode()]
    options = ("--min-confidence", 0.99999, "--top", 3)
    rows = run(pipeline, bodies, "--predictor", "examples.iris:Iris", *options)
    assert "--top: of no effect with --predictor" in pipeline.scripts[0].output
    assert [row["label"] for row in rows] == ["setosa", "virginica"]
    assert all(row["model"].startswith("iris@") and row["unsure"] is True for row in rows)
    [letter] = dead_letters(pipeline.connect(), pipeline.images, 1)
    assert (letter.data, letter.attributes["dead_letter_reason"]) == (b"no row", "unreadable item")


def test_texts_are_served_and_their_own_fields_are_kept(pipeline: Pipeline) -> None:
    bodies = [b"thanks, that was great", b"slow and broken"]
    rows = run(pipeline, bodies, "--predictor", "examples.sentiment:Sentiment")
    assert [(row["label"], row["score"]) for row in rows] == [("friendly", 2), ("unfriendly", -2)]


def test_a_picture_that_a_model_answers_nan_to_costs_itself_alone(pipeline: Pipeline) -> None:
    path = nan_on_black(pipeline.folder / "colours.onnx")
    red, green, _ = map(encode_npy, one_of_each_colour())
    black = encode_npy(np.zeros((SIDE, SIDE, 3), np.uint8))
    rows = run(pipeline, [red, black, green], "--checkpoint", path)
    assert [row["label"] for row in rows] == ["0", "1"]
    [letter] = dead_letters(pipeline.connect(), pipeline.images, 1)
    assert letter.data == black
    assert "answers NaN or infinity" in letter.attributes["dead_letter_error"]


def test_an_onnx_file_is_served(pipeline: Pipeline) -> None:
    write(pipeline.folder / "colours.onnx")
    bodies = []
    for colour in ("blue", "red"):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), colour).save(file, "png")
        bodies.append(file.getvalue())
    rows = run(pipeline, bodies, "--checkpoint", pipeline.folder / "colours.onnx")
    assert [row["label"] for row in rows] == ["blue", "red"]


BREAKS_ITS_WORD = """
import asyncio, itertools
import numpy as np

class Speechless(Exception):
    def __str__(self): raise ValueError

class Broken:
    version = "broken@1"
    def __init__(self, checkpoint, threads): pass
    def warm_up(self): pass
    def close(self): pass
    def prepare_batch(self, items):
        if any(item.data == b"unprepared" for item in items): raise GeneratorExit
        return [item.data for item in items], [None for item in items]
    def predict(self, batch):
        if b"few" in batch: return []
        if b"nothing" in batch: return None
        if b"one for all" in batch: return {"label": "a"}
        if b"raises" in batch: raise RuntimeError("no idea")
        if b"exits" in batch: raise SystemExit(3)
        if b"cancelled" in batch: raise asyncio.CancelledError
        if b"interrupted" in batch: raise KeyboardInterrupt
        if b"speechless" in batch: raise Speechless
        if b"endless" in batch: return ({"score": n} for n in itertools.count())
        if b"nul" in batch: return [{"score": "a\\0"} for _ in batch]
        if b"number" in batch: return [{"score": np.float64(1)} for _ in batch]
        if b"nan" in batch: return [{"score": float("nan")} for _ in batch]
        if b"object" in batch: return [{"score": object()} for _ in batch]
        return [{"text": body.decode()} for body in batch]
"""


def test_a_predictor_that_breaks_its_word_for_an_item_costs_that_item_alone(
    pipeline: Pipeline,
) -> None:
    (pipeline.folder / "broken.py").write_text(BREAKS_ITS_WORD)
    faults = {
        "few": "0 answers",
        "nothing": "predict gave None, not a list of answers",
        "one for all": "predict gave {'label': 'a'}, not a list of answers",
        "raises": "no idea",
        "exits": "sys.exit(3)",
        "cancelled": "it raised CancelledError",
        "interrupted": "it raised KeyboardInterrupt",
        "unprepared": "it raised GeneratorExit",
        "speechless": "Speechless without a text",
        "endless": "more than 65,536 answers",
        "nul": "the character NUL",
        "number": "no JSON",
        "nan": "no JSON",
        "object": "no JSON",
    }
    bodies = [b"a", *(each.encode() for each in faults), b"z"]
    rows = run(pipeline, bodies, "--predictor", "broken:Broken")
    assert [row["text"] for row in rows] == ["a", "z"]
    assert "label" not in rows[0]
    for letter in dead_letters(pipeline.connect(), pipeline.images, len(faults)):
        assert letter.attributes["dead_letter_reason"] == "prediction failed"
        assert faults[letter.data.decode()] in letter.attributes["dead_letter_error"]


NEVER_ENDS = """
import threading, time

class InWarmUp:
    version = "never@1"
    def __init__(self, checkpoint, threads): pass
    def warm_up(self): self.wait()
    def prepare_batch(self, items): return items, [None] * len(items)
    def predict(self, batch): return []
    def close(self): pass
    def wait(self):
        print("waiting", flush=True)
        while True: time.sleep(1)

class InClose(InWarmUp):
    def warm_up(self): print("waiting", flush=True)
    def close(self): self.wait()

class InPreparation(InWarmUp):
    def warm_up(self): pass
    def prepare_batch(self, items): self.wait()

class InThread(InWarmUp):
    def warm_up(self): threading.Thread(target=self.wait).start()
"""


@pytest.mark.parametrize("where", ["InWarmUp", "InClose", "InThread"])
def test_a_predictor_that_never_ends_does_not_keep_the_server_from_stopping(
    where: str, pipeline: Pipeline
) -> None:
    (pipeline.folder / "never.py").write_text(NEVER_ENDS)
    sub = pipeline.sub("--predictor", f"never:{where}", PYTHONPATH=str(pipeline.folder))
    sub.says("waiting")
    if where != "InWarmUp":
        sub.ready()
    sub.terminate()


def test_a_predictor_whose_preparation_never_ends_is_ended_as_a_model_that_hangs_is(
    pipeline: Pipeline,
) -> None:
    (pipeline.folder / "never.py").write_text(NEVER_ENDS)
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    broker.publish_batch(pipeline.images, [OutgoingMessage(b"a")])
    sub = pipeline.sub(
        "--predictor", "never:InPreparation", "--predict-timeout", 1,
        PYTHONPATH=str(pipeline.folder),
    )  # fmt: skip
    sub.end(1)
    assert "the items are not prepared within --predict-timeout (1.0 s)" in sub.output


def test_a_network_that_never_ends_does_not_keep_the_server_from_stopping(
    pipeline: Pipeline,
) -> None:
    """While it is tried out Python gets no turn in the main thread."""
    path = endless_onnx(pipeline.folder / "endless.onnx")
    sub = pipeline.sub("--checkpoint", path, "--threads", 1)
    process = psutil.Process(sub.process.pid)
    wait_until(lambda: process.cpu_times().user > ALL_BUT_THE_NETWORK, "the network runs")
    sub.process.terminate()
    assert sub.process.wait(PATIENCE_SECONDS) == 0
    assert "stopping: the model was still being loaded" in sub.output

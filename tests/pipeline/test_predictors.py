"""Models of all kinds through the whole pipeline, and predictors that break their word."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from examples.colours_onnx import write
from examples.iris import MEASURES
from MessageBroker import OutgoingMessage
from Modelling.data_preparation import encode_npy
from tests.modelling.foreign import SIDE, endless_onnx, nan_on_black, one_of_each_colour
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline, dead_letters, wait_until

# Seconds of CPU: all imports take fewer.
ALL_BUT_THE_NETWORK = 4.0


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


ILL_MANNERED = """
import io, logging.config, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.chdir("/")
print("welcome to the framework")

def take_over():
    os.chdir("/")
    sys.stdout.close()
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-16")
    sys.stdout.buffer.close()
    sys.stderr = open(os.devnull, "w")
    sys.stderr.close()
    logging.disable(logging.CRITICAL)
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL", "handlers": []}})

class IllMannered:
    version = "ill-mannered@1"
    def __init__(self, checkpoint, threads):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        take_over()
    def warm_up(self): pass
    def prepare_batch(self, items): return items, [None] * len(items)
    def predict(self, batch):
        folder = os.getcwd()
        take_over()
        return ({"text": folder} for _ in batch)
    def close(self): raise SystemExit("no")
"""


def test_a_predictor_that_takes_the_process_over_serves_and_stops_as_others_do(
    pipeline: Pipeline,
) -> None:
    (pipeline.folder / "ill_mannered.py").write_text(ILL_MANNERED)
    rows = run(pipeline, [b"a", b"b"], "--predictor", "ill_mannered:IllMannered", "--batch-size", 1)
    assert [Path(row["text"]) for row in rows] == [pipeline.folder] * 2
    assert "2 images classified" in pipeline.scripts[0].output
    sub = pipeline.sub("--predictor", "ill_mannered:IllMannered", PYTHONPATH=str(pipeline.folder))
    sub.ready().terminate()
    assert "ill-mannered@1 could not be closed: SystemExit: no" in sub.output


CLOSES = """
import os, pathlib
from examples.sentiment import Sentiment

class Closes(Sentiment):
    version = "closes@1"
    def prepare_batch(self, items): return items, [None] * len(items)
    def predict(self, batch):
        for number in (0, 1, 2): os.close(number)
        self.opened = [open(pathlib.Path(__file__).with_name(each), "w") for each in "abc"]
        return [{"text": item.data.decode()} for item in batch]
"""


def test_where_a_predictor_closes_the_standard_streams_descriptors_no_file_gets_their_words(
    pipeline: Pipeline,
) -> None:
    """What it opens next has their numbers; each further batch closes it, and opens it anew."""
    (pipeline.folder / "closes.py").write_text(CLOSES)
    texts = [str(number) for number in range(8)]
    bodies = [text.encode() for text in texts]
    rows = run(pipeline, bodies, "--predictor", "closes:Closes", "--batch-size", 2)
    assert [row["text"] for row in rows] == texts
    assert "model_server_sub: 8 images classified" in pipeline.scripts[0].output
    assert [(pipeline.folder / each).read_text() for each in "abc"] == [""] * 3


CLOSES_OURS = """
import os
from examples.sentiment import Sentiment

class Closes(Sentiment):
    def predict(self, batch):
        answers = super().predict(batch)
        for number in os.listdir("/proc/self/fd"):
            try:
                if "/Queue/" in os.readlink(f"/proc/self/fd/{number}"): os.close(int(number))
            except OSError: pass
        return answers
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it looks for files in /proc")
def test_a_server_whose_files_a_predictor_has_closed_ends_and_says_so(pipeline: Pipeline) -> None:
    """They are not opened again by waiting; the next server has them."""
    (pipeline.folder / "closes.py").write_text(CLOSES_OURS)
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    broker.publish_batch(pipeline.images, [OutgoingMessage(b"thanks")])
    sub = pipeline.sub("--predictor", "closes:Closes", PYTHONPATH=f"{ROOT}:{pipeline.folder}")
    sub.end(1)
    assert "other code in this process has closed its files; start it anew" in sub.output


CLOSES_ALL = """
import os
from examples.sentiment import Sentiment

class ClosesAll(Sentiment):
    def predict(self, batch):
        os.closerange(3, 4096)
        return super().predict(batch)
"""


def test_a_server_whose_predictor_has_closed_all_files_ends_and_the_next_has_its_items(
    pipeline: Pipeline,
) -> None:
    """Whoever opens one next has the number of another: nothing more may be written."""
    (pipeline.folder / "closes.py").write_text(CLOSES_ALL)
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    messages = [
        OutgoingMessage(b"thanks", attributes={"ce_id": str(number), "ce_source": "s"})
        for number in range(3)
    ]
    broker.publish_batch(pipeline.images, messages)
    sub = pipeline.sub("--predictor", "closes:ClosesAll", PYTHONPATH=f"{ROOT}:{pipeline.folder}")
    sub.end(1)
    assert "a predictor has closed files of this process" in sub.output
    rows = run(pipeline, [], "--predictor", "examples.sentiment:Sentiment")
    assert [row["id"] for row in rows] == ["s#0", "s#1", "s#2"]


CRIPPLES = """
import os, resource, sys, time, warnings
from examples.sentiment import Sentiment

class Cripples(Sentiment):
    version = "cripples@1"
    def prepare_batch(self, items): return [i.data.decode() for i in items], [None] * len(items)
    def predict(self, batch):
        os.umask(0o777)
        for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
            resource.setrlimit(limit, (0, resource.getrlimit(limit)[1]))
        warnings.simplefilter("error")
        time.sleep = None
        os.environ.clear()
        return [{"text": each} for each in batch]
"""


def test_a_predictor_that_takes_from_the_process_what_it_needs_serves_as_others_do(
    pipeline: Pipeline,
) -> None:
    """Nothing could be stored any more, nor said of it."""
    (pipeline.folder / "cripples.py").write_text(CRIPPLES)
    texts = [str(number) for number in range(5)]
    bodies = [text.encode() for text in texts]
    rows = run(pipeline, bodies, "--predictor", "cripples:Cripples", "--batch-size", 1)
    assert [row["text"] for row in rows] == texts


FORKS = """
import multiprocessing, os, time
from examples.sentiment import Sentiment

def shout(text): return {"text": text.upper()}

class Forks(Sentiment):
    version = "forks@1"
    def prepare_batch(self, items):
        return [each.data.decode() for each in items], [None] * len(items)

class Pool(Forks):
    def predict(self, batch):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(shout, batch)

class Lasting(Forks):
    def predict(self, batch):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        process.start()
        return [{"text": str(process.pid)} for _ in batch]

class Stray(Forks):
    def predict(self, batch):
        parent, child = os.getpid(), os.fork()
        if child: os.waitpid(child, 0)
        return [{"text": "PARENT" if os.getpid() == parent else "CHILD"} for _ in batch]
"""


@pytest.mark.parametrize(
    ("name", "expected"), [("Pool", ["A", "B", "C"]), ("Stray", ["PARENT"] * 3)]
)
def test_processes_that_a_predictor_forks_end(
    name: str, expected: list[str], pipeline: Pipeline
) -> None:
    """Those of a pool by the signal that they are sent, others where they come back."""
    (pipeline.folder / "forks.py").write_text(FORKS)
    rows = run(pipeline, [b"a", b"b", b"c"], "--predictor", f"forks:{name}", "--batch-size", 1)
    assert [row["text"] for row in rows] == expected


def test_a_process_that_a_predictor_leaves_running_ends_with_the_server(pipeline: Pipeline) -> None:
    (pipeline.folder / "forks.py").write_text(FORKS)
    [row] = run(pipeline, [b"a"], "--predictor", "forks:Lasting")
    wait_until(lambda: not psutil.pid_exists(int(row["text"])), "the process has ended")


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

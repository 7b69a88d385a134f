"""Predictors that do to the server's process what is not theirs to do."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from MessageBroker import OutgoingMessage
from tests.pipeline.runner import ROOT, Pipeline, wait_until
from tests.pipeline.serving import run

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

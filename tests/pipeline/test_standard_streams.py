"""Started without some of the standard streams, as cron and supervisors do, all is as ever."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from Queue import open_queue
from tests.brokers.harness import BrokerUnderTest, clean_environment
from tests.pipeline.runner import PATIENCE_SECONDS, ROOT, Pipeline

IMAGES = 20
# Every choice of the three but none.
CLOSED = [
    closed
    for count in (1, 2, 3)
    for closed in itertools.combinations(("<&-", ">&-", "2>&-"), count)
]
ALL = ("<&-", ">&-", "2>&-")


def without(closed: tuple[str, ...], command: list[str]) -> list[str]:
    """Start a command as a shell does that was told to close some of its streams."""
    return ["sh", "-c", f'exec "$@" {" ".join(closed)}', "sh", *command]


class ClosedPipeline(Pipeline):
    """Its scripts have not all of their standard streams."""

    closed: tuple[str, ...] = ()

    def command(self, name: str) -> list[str]:
        return without(self.closed, super().command(name))


@pytest.fixture
def closed_pipeline(embedded_broker: BrokerUnderTest, tmp_path: Path) -> Iterator[ClosedPipeline]:
    with ClosedPipeline(embedded_broker, tmp_path) as pipeline:
        yield pipeline
    embedded_broker.end_of_test()


@pytest.mark.parametrize(
    "closed",
    [
        pytest.param(each, marks=() if each in (ALL, ("2>&-",)) else pytest.mark.soak)
        for each in CLOSED
    ],
    ids=" ".join,
)
def test_the_four_scripts_work_and_nothing_of_their_words_is_in_a_file(
    closed_pipeline: ClosedPipeline, closed: tuple[str, ...]
) -> None:
    pipeline = closed_pipeline
    pipeline.closed = closed

    scripts = [pipeline.app_1("--count", IMAGES)]
    assert scripts[0].process.wait(PATIENCE_SECONDS) == 0
    for start in (pipeline.sub, pipeline.pub, pipeline.app_2):
        scripts.append(start("--exit-when-idle", 1))
        assert scripts[-1].process.wait(PATIENCE_SECONDS) == 0, scripts[-1].output

    pipeline.assert_each_stored_once()
    assert pipeline.stored() == IMAGES
    with open_queue(pipeline.queue, read_only=True) as queue:
        found = queue.verify()
    assert (found.records, found.problem_count) == (IMAGES, 0)
    if ">&-" in closed and "2>&-" in closed:
        assert not any(script.output for script in scripts)
    elif "2>&-" in closed:  # what is left shows the last line, and no traceback before it
        assert [len(script.output.splitlines()) for script in scripts] == [1] * 4


PROGRAMS = {
    "app_1.py --count no": 2,
    "app_2.py --broker kafka --wait-for-broker 0.1": 1,
    "-m MessageBroker ping --broker local": 0,
    "-m MessageBroker ping --broker kafka --timeout 0.1": 1,
    "-m MessageBroker backlog no-such-topic --broker local": 1,
    "-m Queue status --queue {folder}/log.txt": 0,
    "-m DB get no-such-id --db {folder}/db.txt": 1,
    "-m DB summary --db nowhere://x": 2,
    "-m Pipeline.watch --once 1": 1,
    "-m Modelling.predict_cnn {folder}/none.png": 1,
    "Modelling/predict_cnn.py --checkpoint {folder}/none.h5 x.png": 2,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_without_any_stream_ends_with_the_code_that_it_ends_with_anyway(
    program: str, tmp_path: Path
) -> None:
    open_queue(tmp_path / "log.txt").close()
    arguments = program.format(folder=tmp_path).split()
    settings = {"LOCAL_BROKER_PATH": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = subprocess.run(
        without(ALL, [sys.executable, *arguments]),
        cwd=ROOT,
        env={**clean_environment(), **settings},
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == PROGRAMS[program]


CLOSES_THEM = """
import io, sys
from DurableText.program import standard_streams

standard_streams.prepare()
for stream in (sys.stdout, sys.stderr):
    with stream:
        pass
    stream.buffer.close()
    io.TextIOWrapper(stream.detach(), encoding="utf-16").close()
    print("at its end", file=stream)
"""


@pytest.mark.parametrize("options", [[], ["-u"]], ids=str)
def test_what_a_program_says_after_code_of_others_closed_its_streams_is_read(
    options: list[str],
) -> None:
    done = subprocess.run(
        [sys.executable, *options, "-c", CLOSES_THEM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "at its end\n", "at its end\n")

"""How the scripts start and how they end, whatever comes in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from Pipeline.observability.waiting import Waiting
from Pipeline.script.work import UnconfirmedError, Work
from Pipeline.stop import SAME_REQUEST_SECONDS, Stop
from tests.pipeline.runner import ROOT, Pipeline, Script, wait_until
from tests.queue.of_dicts import FileQueue

SCRIPTS = ["app_1", "model_server_sub", "model_server_pub", "app_2"]

# The signal comes exactly when the module is looked for.
SIGNAL_AT_IMPORT = """
import os, signal, sys
class Signal:
    def find_spec(self, name, *_):
        if name == {module!r} and "__main__" in sys.modules:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signal())
"""
# The rule is the same as with 20 seconds.
SHORT_GRACE = """
import contextlib
from Pipeline.script import life_cycle, work
Stop, confirming = life_cycle.Stop, work.Work.confirming
@contextlib.contextmanager
def told(self):
    print("waits for the broker", flush=True)
    with confirming(self):
        yield
    print("the broker answers", flush=True)
life_cycle.Stop = lambda: Stop(grace_seconds=2.0)
work.Work.confirming = told
"""
# The first signal cannot finish what is in flight; in native code, where no signal is heard.
HANGING_MODEL = """
import ctypes
from Modelling import predict_cnn
def hang(*arguments, **named):
    print("hanging", flush=True)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_init(mutex, None)
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)
predict_cnn.Classifier.prepare_batch = hang
"""


def site(folder: Path, code: str) -> dict[str, str]:
    """An environment in which Python runs `code` before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_imports_what_takes_long_and_it_does_not_use(script: str) -> None:
    heavy = {"tensorflow", "keras", "matplotlib", "confluent_kafka", "google.cloud.pubsub"}
    heavy |= {"importlib.metadata"}  # with the parsers of mail and archives behind it
    if script in ("app_1", "app_2"):  # they have no queue
        heavy |= {"Queue.text.file_queue"}
    if script in ("model_server_pub", "app_2"):  # they have no images
        heavy |= {"numpy", "PIL"}
    code = f"import sys, {script}; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process has loaded: Linux")
def test_the_shipped_checkpoint_is_served_without_tensorflow(pipeline: Pipeline) -> None:
    sub = pipeline.sub().ready()
    maps = Path(f"/proc/{sub.process.pid}/maps").read_text()
    assert "tensorflow/python" not in maps


def at_import(folder: Path, module: str, number: signal.Signals) -> dict[str, str]:
    return site(folder / "site", SIGNAL_AT_IMPORT.format(module=module, number=int(number)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", SCRIPTS)
def test_control_c_while_a_script_is_imported_ends_it_quietly(
    pipeline: Pipeline, tmp_path: Path, script: str, number: signal.Signals
) -> None:
    started = pipeline.start(script, **at_import(tmp_path, "MessageBroker", number))
    assert started.process.wait(60) == 0
    assert started.output == ""


@pytest.mark.parametrize("module", ["MessageBroker", "ai_edge_litert"])
def test_a_hangup_before_the_server_is_ready_does_not_kill_it(
    pipeline: Pipeline, tmp_path: Path, module: str
) -> None:
    pipeline.sub(**at_import(tmp_path, module, signal.SIGHUP)).ready().terminate()


@pytest.mark.parametrize("script", SCRIPTS)
def test_on_another_system_a_script_says_what_it_needs(script: str) -> None:
    elsewhere = f"import os, runpy; os.name = 'nt'; runpy.run_path('{script}.py', {{}}, '__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", elsewhere], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == "Linux or macOS is needed; on Windows use WSL 2\n"


def wait_until_it_waits(script: Script) -> None:
    """Wait until it has something to publish, and no answer."""

    def waits() -> bool:
        output = script.output
        return output.rfind("waits for the broker") > output.rfind("the broker answers")

    def waits_on() -> bool:  # an answer from before the outage may have been on its way
        before = script.output
        time.sleep(0.3)
        return waits() and script.output == before

    wait_until(waits_on, f"{script.name} waits for the broker")


def test_app_1_asked_to_end_during_an_outage_ends_and_reports_what_is_published(
    pipeline_on_each_broker: Pipeline, tmp_path: Path
) -> None:
    pipeline = pipeline_on_each_broker
    environment = site(tmp_path / "site", SHORT_GRACE)
    app_1 = pipeline.start(
        "app_1", "--ids", pipeline.ids_file, "--count", 10_000, "--rate", 200, **environment
    )
    wait_until(lambda: pipeline.ids_file.exists() and len(pipeline.ids()) > 100, "some are out")
    with pipeline.broker.outage():
        wait_until_it_waits(app_1)
        app_1.process.terminate()
        app_1.end(1)
    assert app_1.output.count("the broker has not answered within 2 seconds") == 1
    assert f"app_1: {len(pipeline.ids()):,} of 10,000 images confirmed" in app_1.output
    scripts = [pipeline.sub(), pipeline.pub(), pipeline.app_2()]
    pipeline.wait_for_rows(len(pipeline.ids()))
    for script in scripts:
        script.ready().terminate()
    # What was not confirmed may have arrived all the same: it is in the DB, but was not promised.
    stored = [row["id"] for row in pipeline.rows()]
    assert len(stored) == len(set(stored))
    assert set(pipeline.ids()) <= set(stored)


def test_the_publisher_asked_to_end_during_an_outage_ends_and_loses_nothing(
    pipeline_on_each_broker: Pipeline, tmp_path: Path
) -> None:
    pipeline = pipeline_on_each_broker
    environment = site(tmp_path / "site", SHORT_GRACE)
    pub = pipeline.start("model_server_pub", "--queue", pipeline.queue, **environment).ready()
    with pipeline.broker.outage(), FileQueue(pipeline.queue) as queue:
        queue.put([{"id": str(i), "label": "7"} for i in range(10)])
        wait_until_it_waits(pub)
        pub.process.terminate()
        assert "the broker has not answered within 2 seconds" in pub.end(1)
    pipeline.pub("--exit-when-idle", 2).end()
    pipeline.app_2("--exit-when-idle", 2).end()
    assert sorted(row["id"] for row in pipeline.rows()) == sorted(map(str, range(10)))


@pytest.mark.parametrize("images", [1, 100])
def test_a_second_signal_ends_at_once_and_nothing_is_lost(
    pipeline: Pipeline, tmp_path: Path, images: int
) -> None:
    pipeline.app_1("--count", images).end()
    sub = pipeline.sub(**site(tmp_path / "site", HANGING_MODEL)).says("hanging")
    sub.process.send_signal(signal.SIGINT)
    time.sleep(2 * SAME_REQUEST_SECONDS)
    assert sub.process.poll() is None, "the first signal lets it finish what is in flight"
    sub.process.send_signal(signal.SIGINT)
    sub.end(1)
    for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
        script.ready()
    pipeline.wait_for_rows(images)
    pipeline.assert_each_stored_once()


def test_a_signal_to_the_process_and_then_to_its_group_is_one_request() -> None:
    """As `timeout` sends it."""
    moments, ended = iter([100.0, 100.0, 100.1, 100.5]), []
    stop = Stop(clock=moments.__next__, end_at_once=ended.append)
    for _ in range(2):
        stop.on_signal(signal.SIGTERM, None)
    assert stop.requested
    assert ended == []
    stop.on_signal(signal.SIGTERM, None)
    assert ended == [1]


def test_what_waits_for_the_broker_waits_without_limit_until_a_stop() -> None:
    def confirmed(confirmation: Callable[[], object], stop: Stop) -> object:
        work = Work(stop, Waiting())

        def publish() -> object:
            with work.confirming():
                return confirmation()

        return work.do(publish)

    stop, answer = Stop(grace_seconds=0.1), threading.Event()
    threading.Timer(0.5, answer.set).start()
    assert confirmed(lambda: answer.wait(60), stop) is True
    stop.request()
    with pytest.raises(UnconfirmedError):
        confirmed(threading.Event().wait, stop)
    with pytest.raises(ZeroDivisionError):
        confirmed(lambda: 1 / 0, Stop())


def test_work_is_left_behind_only_where_the_broker_is_waited_for() -> None:
    stop, told = Stop(grace_seconds=0.0), threading.Event()
    stop.request()
    work = Work(stop, Waiting())

    def batches() -> None:
        assert not told.wait(0.5), "it takes its time, and nobody goes on without it"
        with work.confirming():
            told.wait(60)

    began = time.monotonic()
    with pytest.raises(UnconfirmedError):
        work.do(batches)
    assert time.monotonic() - began >= 0.5
    told.set()

"""A new model beside the one that serves: a share of the images, or all of them without a word."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from DB import open_database
from MessageBroker import Message, OutgoingMessage
from MessageBroker.message import Delivery
from Modelling.errors import CheckpointError
from Pipeline.serving.served import Served, canary, is_of_canary
from Pipeline.serving.shadow import WAITING_BATCHES, Shadow
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop
from tests.engines import postgres_server
from tests.engines.postgres_server import PostgresServer
from tests.operations.scripts import CheckpointFolder
from tests.pipeline.runner import ROOT, Pipeline, Script, wait_until


def test_a_canarys_share_is_by_id() -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(100_000)]
    chosen = [is_of_canary(each, 0.1) for each in ids]
    assert 0.097 <= sum(chosen) / len(ids) <= 0.103
    assert not any(is_of_canary(each, 0.0) for each in ids[:1000])
    assert all(is_of_canary(each, 1.0) for each in ids[:1000])
    assert all(is_of_canary(each, 0.2) for each, yes in zip(ids, chosen, strict=True) if yes)


@pytest.mark.parametrize(
    "text",
    ["a.h5:1.1", "a.h5:-0.1", "a.h5:nan", "a.h5:inf", "a.h5", "a.h5:", ":0.1", "a.h5:x", ":", ""],
)
def test_a_share_outside_of_0_to_1_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="FILE:SHARE"):
        canary(text)
    assert canary("a:b.h5:0.5") == (Path("a:b.h5"), 0.5)


class Fixed:
    """A live model, or a predictor, with labels."""

    def __init__(self, *labels: str, version: str = "fixed@1") -> None:
        self.labels = labels
        self.version = version

    def current(self) -> Fixed:
        return self

    def predict(self, batch: Any) -> Any: ...

    def close(self) -> None: ...


def test_a_canary_with_other_labels_is_refused() -> None:
    with pytest.raises(CheckpointError, match="other labels"):
        Served(Fixed("cat", "dog"), Fixed("dog", "cat"), 0.1)  # type: ignore[arg-type]


def test_a_canary_that_no_result_tells_from_the_served_model_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same file, or Python of one's own whose version does not name the weights."""
    Served(Fixed("cat"), Fixed("cat", version="other@1"), 0.1)  # type: ignore[arg-type]
    assert not caplog.records
    Served(Fixed("cat"), Fixed("cat"), 0.1)  # type: ignore[arg-type]
    assert "the canary has the version of the served model, fixed@1" in caplog.text


OF_TWO_KINDS = """
from examples.sentiment import Sentiment

class Model(Sentiment):
    def __init__(self, checkpoint, threads):
        super().__init__(None, threads)
        self.version = f"{checkpoint.stem if checkpoint else 'served'}@1"
        self.labels = ("b", "a") if checkpoint else ("a", "b")
"""


def test_labels_of_ones_own_python_are_held_against_those_of_a_canary_and_a_shadow(
    pipeline: Pipeline,
) -> None:
    (pipeline.folder / "kinds.py").write_text(OF_TWO_KINDS)
    serve = ("--predictor", "kinds:Model", "--exit-when-idle", 1)
    path = {"PYTHONPATH": f"{ROOT}:{pipeline.folder}"}
    canary = pipeline.sub(*serve, "--canary", "new:0.5", **path)
    assert "the canary new@1 has other labels than served@1" in canary.end(2)
    shadow = pipeline.sub(*serve, "--shadow", "new", **path)
    shadow.end()
    assert "the shadow new@1 has other labels than served@1" in shadow.output


def test_a_canary_that_a_reload_gives_other_labels_rests_until_they_are_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served, second = Fixed("cat", "dog"), Fixed("cat", "dog", version="fixed@2")
    models = Served(served, second, 1.0)  # type: ignore[arg-type]

    def who() -> list[object]:
        return [part.predictor for part in models.parts(3, str)]

    assert who() == [second]
    second.labels = ("dog", "cat")
    assert who() == who() == [served]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    served.labels = ("dog", "cat")
    assert who() == [second]


def test_a_canary_answers_its_share_and_a_shadow_nobody(pipeline: Pipeline, tmp_path: Path) -> None:
    canary_files, shadow_files = (CheckpointFolder(tmp_path / name) for name in ("c", "s"))
    version = canary_files.install(1)
    shadow_version = shadow_files.install(2)
    sub = pipeline.sub(
        "--canary", f"{canary_files.path}:0.3", "--shadow", shadow_files.path
    ).ready()  # fmt: skip
    pipeline.pub().ready()
    app_2 = pipeline.app_2().ready()
    pipeline.app_1("--count", 120).end()
    pipeline.wait_for_rows(120)
    wait_until(lambda: len(shadows(pipeline)) == 120, "the shadow's answers are kept")
    sub.terminate()
    app_2.terminate()

    pipeline.assert_each_stored_once()
    rows = pipeline.rows()
    for row in rows:
        assert str(row["model"]).startswith(version) == is_of_canary(str(row["id"]), 0.3)
    assert 10 < sum(str(row["model"]).startswith(version) for row in rows) < 70
    assert {row["id"] for row in shadows(pipeline)} == {row["id"] for row in rows}
    assert all(row["model"].startswith(shadow_version) for row in shadows(pipeline))


def test_two_servers_that_are_killed_share_out_alike_and_leave_no_shadow_in_the_db(
    pipeline_on_each_broker: Pipeline, tmp_path: Path
) -> None:
    killed_and_compared(pipeline_on_each_broker, tmp_path, 2000)


def test_on_postgresql_the_answers_are_kept_and_compared_as_on_a_text(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    postgres_server.find_or_skip()
    with PostgresServer() as server:
        pipeline.db = server.url()

        def restart() -> None:
            server.kill()
            server.start()

        killed_and_compared(pipeline, tmp_path, 600, restart)
        told = json.loads(of_db(pipeline.db, "summary", "--json"))
        drawn, copied = tmp_path / "compared.png", tmp_path / "copy.txt"
        comparison = of_db(pipeline.db, "compare", "--json", "--plot", str(drawn))
        of_db(copied, "import", str(pipeline.db))
    assert told["rows"] == 600
    assert drawn.stat().st_size > 10_000
    assert of_db(copied, "compare", "--json") == comparison


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_of_a_hundred_thousand_images_the_canary_answers_a_tenth_whoever_is_killed(
    pipeline_on_each_broker: Pipeline, tmp_path: Path
) -> None:
    share = killed_and_compared(pipeline_on_each_broker, tmp_path, 100_000)
    assert 0.097 <= share <= 0.103


def killed_and_compared(
    pipeline: Pipeline, folder: Path, count: int, also: Callable[[], None] = lambda: None
) -> float:
    """Kill each of two servers with a canary and a shadow in mid-run; return the canary's share.

    `also` is done at each kill.
    """
    canary_files, shadow_files = (CheckpointFolder(folder / name) for name in ("c", "s"))
    version, shadow_version = canary_files.install(1), shadow_files.install(2)
    options = ("--canary", f"{canary_files.path}:0.1", "--shadow", shadow_files.path)
    subs = [
        pipeline.sub(*options, "--state-dir", folder / f"state{number}").ready()
        for number in range(2)
    ]
    pub, app_2 = pipeline.pub(), pipeline.app_2().ready()
    app_1 = pipeline.app_1("--count", count)
    for number in range(2):
        pipeline.wait_for_rows((number + 1) * count // 4, seconds=900)
        subs[number].kill()
        also()
        subs[number] = pipeline.sub(*options, "--state-dir", folder / f"state{number}")
    assert f"{count:,} of {count:,} images confirmed" in app_1.end()
    pipeline.wait_for_rows(count, seconds=900)
    for sub in subs:
        sub.ready().terminate()
    told = json.loads(compared(pipeline, app_2))
    pub.terminate()

    pipeline.assert_each_stored_once()
    rows = pipeline.rows()
    of_canary = {row["id"] for row in rows if row["model"].startswith(version)}
    assert of_canary == {row["id"] for row in rows if is_of_canary(row["id"], 0.1)}
    assert not any(row["model"].startswith(shadow_version) for row in rows)
    assert told["model"].startswith(shadow_version)
    assert (told["results"], told["answers_without_result"]) == (count, 0)
    answered = {row["id"] for row in shadows(pipeline)}
    assert 0 < told["compared"] == len(answered & set(pipeline.ids())) <= count
    assert told["coverage"] == told["compared"] / count
    print(f"{len(of_canary):,} of {count:,} by the canary, shadow: {told}")
    return len(of_canary) / count


def compared(pipeline: Pipeline, app_2: Script) -> str:
    """What the command tells once the shadow's last answers have come through."""
    with pipeline.connect() as broker:
        backlog = f"{pipeline.inferences}-sub"
        wait_until(
            lambda: not broker.backlog(pipeline.inferences, backlog), "all results are stored"
        )
    app_2.terminate()
    [told] = [json.dumps(each) for each in json.loads(of_db(pipeline.db, "compare", "--json"))]
    return told


def of_db(db: Path | str, *arguments: str) -> bytes:
    """What a command of the DB prints."""
    command = [sys.executable, "-m", "DB", *arguments, "--db", str(db)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=300).stdout


def shadows(pipeline: Pipeline) -> list[dict[str, Any]]:
    with open_database(pipeline.db, read_only=True) as db:
        return list(db.iter_shadow())


def shadow_of(predictor: Any, broker: Any) -> Shadow:
    """Make one of a predictor that is loaded."""
    return Shadow(lambda: predictor, broker, "results", Stop(), Watchdog())


def test_a_shadow_that_is_slow_drops_and_holds_up_nobody() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    class Slow(Fixed):
        def prepare_batch(self, items: Any) -> Any:
            at_work.set()
            go_on.wait(30)
            return [], ["not today" for _ in items]

    class Broker:
        name, cloudevents_prefix = "local", "ce_"

    message = type("M", (), {"data": b"x", "attributes": {}})()
    shadow = shadow_of(Slow(), Broker())
    shadow.offer([message], "now")
    assert at_work.wait(10)
    for _batch in range(WAITING_BATCHES + 3):
        shadow.offer([message, message], "now")
    assert shadow.dropped == 6
    go_on.set()
    shadow.close()
    assert shadow.dropped == 7 + 2 * WAITING_BATCHES
    assert shadow.predicted == 0


def test_an_image_on_which_a_shadow_fails_costs_it_that_image_alone() -> None:
    published: list[bytes] = []

    class Fragile(Fixed):
        def prepare_batch(self, items: Any) -> Any:
            return [item.data for item in items], [None for _ in items]

        def predict(self, batch: Any) -> Any:
            if b"bad" in batch:
                raise ValueError("not this one")
            return [{"label": data.decode()} for data in batch]

    class Broker:
        name, cloudevents_prefix = "local", "ce_"

        def publish(self, _topic: str, data: bytes, **_named: Any) -> None:
            published.append(data)

    bodies = [b"good", b"bad", b"fine"]
    messages = [
        Message(str(number), body, {}, None, "images", datetime.now(UTC), delivery=Delivery(0, 1))
        for number, body in enumerate(bodies)
    ]
    shadow = shadow_of(Fragile(), Broker())
    shadow.offer(messages, "2026-01-01T00:00:00.000Z")
    shadow.close()
    assert (shadow.predicted, shadow.dropped) == (2, 1)
    assert [json.loads(each)["label"] for each in published] == ["good", "fine"]


def test_threads_that_a_shadows_engine_starts_give_way_to_the_served_model() -> None:
    """They are the runtime's own, begun while it is loaded, and inherit whose they are."""
    began: list[int] = []

    def load() -> Any:
        thread = threading.Thread(
            target=lambda: began.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        thread.start()
        thread.join()
        return Fixed()

    watchdog = Watchdog()
    with Shadow(load, object(), "results", Stop(), watchdog):  # type: ignore[arg-type]
        assert began[0] > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_shadow_that_hangs_is_told_once_and_what_it_was_at_counts_as_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Hanging(Fixed):
        def prepare_batch(self, items: Any) -> Any:
            go_on.wait(60)
            return [], ["too late" for _ in items]

    class Broker:
        name, cloudevents_prefix = "local", "ce_"

    monkeypatch.setattr("Pipeline.serving.shadow.SLOW_MODEL_SECONDS", 0.1)
    monkeypatch.setattr("Pipeline.serving.shadow.CLOSE_SECONDS", 0.1)
    message = type("M", (), {"data": b"x", "attributes": {}})()
    shadow = shadow_of(Hanging(), Broker())
    shadow.offer([message] * 3, "now")
    wait_until(lambda: "has not answered for 0.1 s" in caplog.text, "it is told to hang")
    shadow.offer([message] * 2, "now")
    shadow.close()
    assert (shadow.predicted, shadow.dropped) == (0, 5)
    go_on.set()


SLEEPS = """
import time

class Model:
    def __init__(self, checkpoint, threads):
        self.version = f"{checkpoint.stem}@1"
        self.what = checkpoint.stem
    def warm_up(self): pass
    def close(self): pass
    def prepare_batch(self, items):
        return [item.data.decode() for item in items], [None for item in items]
    def predict(self, batch):
        if self.what == "sleeps": time.sleep(3600)
        if self.what == "exits": raise SystemExit(1)
        return [{"text": text} for text in batch]
"""


@pytest.mark.parametrize("shadow", ["sleeps", "exits"])
def test_a_shadow_that_never_answers_or_fails_holds_up_no_answer_and_not_the_end(
    shadow: str, pipeline: Pipeline
) -> None:
    (pipeline.folder / "sleeps.py").write_text(SLEEPS)
    for name in ("serves", shadow):
        (pipeline.folder / name).write_text(name)
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    texts = [str(number) for number in range(300)]
    broker.publish_batch(pipeline.images, [OutgoingMessage(text.encode()) for text in texts])
    sub = pipeline.sub(
        "--predictor", "sleeps:Model", "--checkpoint", pipeline.folder / "serves",
        "--shadow", pipeline.folder / shadow, "--batch-size", 20, "--exit-when-idle", 1,
        PYTHONPATH=str(pipeline.folder),
    )  # fmt: skip
    sub.end()
    pipeline.pub("--exit-when-idle", 1).end()
    pipeline.app_2("--exit-when-idle", 1).end()
    assert sorted(row["text"] for row in pipeline.rows()) == sorted(texts)
    assert {row["model"] for row in pipeline.rows()} == {"serves@1"}
    assert f"shadow {shadow}@1: 0 predicted, {len(texts)} dropped" in sub.output

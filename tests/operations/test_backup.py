"""`python -m Pipeline.backup`: made beside a running pipeline, restored where nothing is yet."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from DB import open_database
from DB.text.parts import part_paths
from DurableText.storage import STORAGE
from MessageBroker.local.copying import TopicCopies
from Pipeline.backup import copying
from Pipeline.backup.__main__ import main
from Pipeline.backup.archive import MANIFEST
from Queue import open_queue
from tests.brokers.harness import LocalUnderTest, clean_environment
from tests.pipeline.runner import ROOT, Pipeline, wait_until
from tests.queue_conformance.stories import numbered
from tests.small_disk import mounted


@pytest.fixture
def own_pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """On a broker of its own: all of it is copied."""
    folder = tmp_path / "first"
    folder.mkdir()
    with LocalUnderTest() as broker, Pipeline(broker, folder) as pipeline:
        yield pipeline


def backup(pipeline: Pipeline, *arguments: object) -> subprocess.Popen[str]:
    """The command on the files of a pipeline."""
    with_places = [] if arguments[0] == "verify" else places(pipeline)
    return subprocess.Popen(
        [sys.executable, "-m", "Pipeline.backup", *map(str, [*arguments, *with_places])],
        cwd=ROOT,
        env={**clean_environment(), **pipeline.broker.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def places(pipeline: Pipeline) -> list[str]:
    named = ["--queue", pipeline.queue, "--db", pipeline.db, "--broker", "local"]
    return [*map(str, named), "--config-dir", str(pipeline.config_dir)]


def pause_between_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that results pass the stores meanwhile: copied against the flow they are lost."""
    copy_topic, copy_db = TopicCopies.copy, copying._copy_db

    def paused_topic(copies: TopicCopies, topic: str) -> None:
        copy_topic(copies, topic)
        time.sleep(0.4)

    def paused_db(path: Path, folder: Path) -> None:
        copy_db(path, folder)
        time.sleep(0.4)

    monkeypatch.setattr(TopicCopies, "copy", paused_topic)
    monkeypatch.setattr(copying, "_copy_db", paused_db)


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    return output


def test_a_pipeline_goes_on_from_a_backup_made_under_load_and_nothing_is_lost_or_twice(
    own_pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, copy = own_pipeline, tmp_path / "backup"
    rotate = ("--rotate-bytes", 20_000)
    started = [first.sub("--batch-size", 8), first.pub("--batch-size", 8), first.app_2(*rotate)]
    for script in started:
        script.ready()
    app_1 = first.app_1("--count", 1_000_000, "--rate", 300)
    wait_until(lambda: first.db.exists() and bool(parts_of(first)), "the DB has parts")
    confirmed = set(first.ids())
    pause_between_stores(monkeypatch)
    assert main(["make", str(copy), *places(first)]) == 0
    assert "all that was confirmed by" in capsys.readouterr().out
    for script in (app_1, *started):
        script.kill()

    with (
        LocalUnderTest() as broker,
        Pipeline(broker, make(tmp_path / "second")) as second,
    ):
        second.images, second.inferences = first.images, first.inferences
        shutil.copy(first.config_dir / "broker_config.ini", second.config_dir)
        assert "sound" in done(backup(second, "verify", copy))
        assert "restored" in done(backup(second, "restore", copy))
        with open_database(second.db, read_only=True) as db:
            found = db.verify()
            assert (found.problems, found.rows > 0) == ([], True)
        with open_queue(second.queue, read_only=True) as queue:
            assert queue.verify().problems == []
        for name, place, option in (
            ("model_server_sub", second.queue, "--queue"),
            ("model_server_pub", second.queue, "--queue"),
            ("app_2", second.db, "--db"),
        ):
            second.start(name, option, place).ready()
        wait_until(lambda: confirmed <= stored(second), "all that was confirmed is stored")
        with open_database(second.db, read_only=True) as db:
            ids = [row["id"] for row in db]
            assert len(ids) == len(set(ids)), "an id is twice in the DB"
            assert db.verify().problems == []


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def parts_of(pipeline: Pipeline) -> list[Path]:
    return part_paths(Path(pipeline.db), STORAGE)


def stored(pipeline: Pipeline) -> set[str]:
    with open_database(pipeline.db, read_only=True) as db:
        return {row["id"] for row in db}


# --- without processes of the pipeline ---


def run(command: str, copy: Path, folder: Path | None = None) -> int:
    places = [] if folder is None else ["--queue", folder / "log.txt", "--db", folder / "db.txt"]
    return main([command, str(copy), *map(str, places)])


def test_what_is_restored_is_what_was_there(state: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other" / "deeper"
    assert run("make", copy, state) == 0
    assert run("restore", copy, other) == 0
    for name in ("db.txt", "db.conflicts.txt", "db.shadow.txt", "db.parts.txt", "log.txt"):
        assert (other / name).read_bytes() == (state / name).read_bytes()
    with open_queue(other / "log.txt") as queue:
        assert [record.id for record in queue.take(100).records] == [str(n) for n in range(5, 20)]
    with open_database(other / "db.txt") as db:
        assert db.verify().problems == []
        assert db.insert([{"id": "3", "label": "7", "model": "m"}]).duplicates == 1
    assert not list(other.glob("*.restoring"))


def test_a_restore_under_other_names_renames_all_that_belongs_together(
    state: Path, tmp_path: Path
) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    run("make", copy, state)
    places = ["--queue", str(other / "q.txt"), "--db", str(other / "results.txt")]
    assert main(["restore", str(copy), *places]) == 0
    with open_database(other / "results.txt", read_only=True) as db:
        assert (db.count(), db.verify().problems) == (9, [])
    with open_queue(other / "q.txt", read_only=True) as queue:
        assert queue.status().depth == 15


def test_nothing_is_restored_over_state_that_is_there(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    run("make", copy, state)
    with open_database(state / "db.txt") as db:
        db.insert([{"id": "later", "label": "7"}])
    before = (state / "db.txt").read_bytes()
    assert run("restore", copy, state) == 1
    assert "is there already; nothing is restored" in capsys.readouterr().err
    assert (state / "db.txt").read_bytes() == before
    assert run("make", copy, state) == 1
    assert "name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["cut", "damaged", "removed", "no manifest", "newer"])
def test_a_backup_that_is_not_whole_is_noticed_and_nothing_is_restored(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    run("make", copy, state)
    file, manifest = copy / "db" / "db.part-000002.txt", copy / MANIFEST
    data = file.read_bytes()
    if harm == "cut":
        file.write_bytes(data[:-30])
    elif harm == "damaged":
        file.write_bytes(data.replace(b"7", b"8"))
    elif harm == "removed":
        file.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    else:
        told = orjson.loads(manifest.read_bytes())
        manifest.write_bytes(orjson.dumps({**told, "format": 2, "version": "9.0.0"}))
    capsys.readouterr()
    assert run("verify", copy) == 1
    assert run("restore", copy, other) == 1
    says = {
        "cut": "and had",
        "damaged": "is damaged",
        "removed": "No such file",
        "no manifest": "is no whole backup",
        "newer": "which knows format 1: restore it with that version",
    }
    assert says[harm] in "".join(capsys.readouterr())
    assert not other.exists()


@pytest.mark.parametrize("command", ["make", "restore"])
def test_one_that_is_killed_at_any_call_leaves_nothing_in_the_way_of_the_next(
    state: Path, tmp_path: Path, command: str
) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    if command == "restore":
        run("make", copy, state)
    places = {"make": state, "restore": other}
    kills = 0
    for step in range(1, 400, 7):
        if killed_at(step, command, copy, places[command]):
            kills += 1
            if command == "make" and copy.exists():
                break  # it has its name, and is whole by then
        else:
            break
    assert kills > 3
    assert run("verify", copy) == 0
    if command == "make":
        assert run("restore", copy, other) == 0
    with open_database(other / "db.txt", read_only=True) as db:
        assert (db.count(), db.verify().problems) == (9, [])


KILLED = """
import os, signal, sys
from DurableText.storage import Storage
left = int(sys.argv.pop(1))
def counting(name):
    call = getattr(Storage, name)
    def counted(self, *arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, *arguments)
    setattr(Storage, name, counted)
for name in ("open", "write", "sync", "sync_directory", "rename", "unlink"):
    counting(name)
from Pipeline.backup.__main__ import main
sys.exit(main())
"""


def killed_at(step: int, command: str, copy: Path, folder: Path) -> bool:
    places = ["--queue", folder / "log.txt", "--db", folder / "db.txt", "--broker", "kafka"]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), command, str(copy), *map(str, places)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        check=False,
    )
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode != 0


def test_a_full_disk_ends_it_and_leaves_nothing(
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy"
    writes = 0

    def full(*_: object) -> int:
        nonlocal writes
        writes += 1
        if writes > 3:
            raise OSError(28, "No space left on device", str(copy))
        return 1 << 20

    monkeypatch.setattr("DurableText.copying.write_all", full)
    assert run("make", copy, state) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state"]


def test_nothing_is_removed_of_a_folder_that_is_none_of_a_backup(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = make(tmp_path / "copy.partial")
    make(own / "db").joinpath("db.txt").write_text("somebody's")
    assert run("make", tmp_path / "copy", state) == 1
    assert "is none of a backup's: name another folder" in capsys.readouterr().err
    assert [each.name for each in own.rglob("*")] == ["db", "db.txt"]

    own.rename(tmp_path / "elsewhere")
    own.symlink_to(make(tmp_path / "empty"))
    assert run("make", tmp_path / "copy", state) == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_url_that_names_no_file_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(tmp_path / "copy"), "--db", "sqlite://"]) == 2
    assert "the DB's URL names no file" in capsys.readouterr().err


def test_what_a_server_keeps_is_told(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--queue", "redis://localhost/0", "--db", "postgresql://localhost/results"]
    assert main(["make", str(tmp_path / "copy"), *options]) == 0
    told = capsys.readouterr().out
    for each in ("the topics: kafka keeps them", "the queue: copy it", "the DB: copy it"):
        assert f"not in it: {each}" in told


ODD_NAMES = ["no\udcffutf-8", "two\nlines", "100%20#?"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_are_backed_up_whatever_their_names_are(tmp_path: Path, name: str) -> None:
    here, there = tmp_path / name / f"{name}.{name}", tmp_path / "back" / f"{name}.{name}"
    with open_queue(here) as queue, open_database(here.with_stem("db")) as db:
        queue.put(numbered(1))
        db.insert([{"id": "1", "label": "7"}])

    def run(command: str, place: Path) -> int:
        arguments = ["--broker", "kafka", "--queue", place, "--db", place.with_stem("db")]
        return main([command, str(tmp_path / f"backup {name}"), *map(str, arguments)])

    assert run("make", here) == run("restore", there) == 0
    with open_queue(there) as queue, open_database(there.with_stem("db")) as db:
        assert len(queue.take(9, timeout=0).records) == db.count() == 1


@pytest.mark.parametrize("kib", [32, 96, 400])
def test_a_disk_that_is_full_is_named_whichever_of_the_files_it_met(
    own_pipeline: Pipeline, tmp_path: Path, kib: int
) -> None:
    with own_pipeline.connect() as broker:
        broker.create_topic(own_pipeline.images)
    with open_queue(own_pipeline.queue) as queue, open_database(own_pipeline.db) as db:
        queue.put(numbered(3000))
        db.insert([{"id": "1", "label": "7"}])
    with mounted(tmp_path / "small", kib * 1024) as small:
        said = done(backup(own_pipeline, "make", small / "backup"), code=1)
        assert f"{small}/backup.partial/" in said
        assert "make room on the disk" in said or "No space left on device" in said
        assert not list(small.iterdir())
    done(backup(own_pipeline, "make", tmp_path / "backup"))
    with mounted(tmp_path / "small", kib * 1024) as small:
        own_pipeline.queue, own_pipeline.db = small / "log.txt", small / "db.txt"
        own_pipeline.broker.folder = small / "broker"
        said = done(backup(own_pipeline, "restore", tmp_path / "backup"), code=1)
        assert f"{small}/" in said
        assert "No space left on device" in said

"""Wrong options and settings: one clear line that says what to do, and the right exit code."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from Modelling.predict_cnn import DEFAULT_CHECKPOINT
from tests.brokers.harness import clean_environment
from tests.pipeline.runner import Pipeline, wait_until

FAILED, USAGE = 1, 2


def last_line(pipeline: Pipeline, script: str, *arguments: object, code: int, **env: str) -> str:
    return pipeline.start(script, *arguments, **env).end(code)


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("app_1", ["--no-such-option"], "--no-such-option"),
        ("app_1", ["--count", "0"], "'0' is not a whole number of at least 1"),
        ("app_1", ["--count", str(10**30)], "is not a whole number of at least 1"),
        ("app_1", ["--rate", "nan"], "'nan' is not a number above 0"),
        ("app_1", ["missing.png"], "there is no file or folder 'missing.png'"),
        ("app_1", ["."], "no images in ."),
        ("app_1", [""], "the name is empty"),
        ("app_2", ["--db", ""], "the name is empty"),
        ("app_1", ["--broker", "rabbit"], "invalid choice: 'rabbit'"),
        ("app_2", ["--exit-when-idle", "-1"], "'-1' is not a number above 0"),
        ("app_2", ["--config-dir", "nowhere"], "there is no folder 'nowhere'"),
        ("model_server_sub", ["--checkpoint", "missing.h5"], "missing.h5"),
        ("model_server_sub", ["--batch-size", "many"], "'many' is not a whole number"),
        ("model_server_sub", ["--threads", "99999"], "is not a number of threads from 1 to 1024"),
        ("model_server_pub", ["--metrics-port", "70000"], "'70000' is not a port"),
    ],
)
def test_wrong_options_are_named(
    pipeline: Pipeline, script: str, arguments: list[str], says: str
) -> None:
    assert says in last_line(pipeline, script, *arguments, code=USAGE)


def test_a_rate_below_one_in_a_lifetime_waits_and_can_be_stopped(pipeline: Pipeline) -> None:
    app_1 = pipeline.app_1("--count", 2, "--rate", "1e-300")
    wait_until(lambda: pipeline.ids_file.exists() and len(pipeline.ids()) == 1, "the first is out")
    assert app_1.terminate().startswith("app_1: 1 of 2 images confirmed")


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("broker_config.ini", "[broker]\nname = rabbit\n", "names the broker 'rabbit': choose one"),
        ("broker_config.ini", "name = local\n", "line 1: a line before the first [section]"),
        ("broker_config.ini", "[brokers]\nname = local\n", "unknown section [brokers]"),
        ("broker_config.ini", "[broker]\nnames = local\n", "[broker] names is unknown"),
        ("broker_config.ini", "[broker]\nname = <WHICH>\n", "[broker] name is still '<WHICH>'"),
        ("broker_config.ini", "[broker]\nname =\n", "[broker] name is empty: fill it in"),
        ("broker_config.ini", "[broker]\nname = ${NO_SUCH}\n", "NO_SUCH, which is not set"),
        ("broker_config.ini", "[delivery]\nmin_backoff = soon\n", "'soon': it must be a number"),
        ("local_config.ini", "[default]\nfolder = x\n", "[default] folder is unknown"),
    ],
)
def test_a_broken_ini_file_is_named_with_section_and_key(
    pipeline: Pipeline, file: str, text: str, says: str
) -> None:
    path = pipeline.config_dir / file
    path.write_text(text)
    environment = {"LOCAL_BROKER_PATH": ""} if file == "local_config.ini" else {}
    line = last_line(pipeline, "app_1", "--count", 1, code=USAGE, **environment)
    assert says in line
    assert file in line


def test_an_unknown_broker_in_the_environment_is_named(pipeline: Pipeline) -> None:
    line = last_line(pipeline, "app_1", code=USAGE, MESSAGE_BROKER="rabbit")
    assert "MESSAGE_BROKER names the broker 'rabbit'" in line


def test_a_checkpoint_that_does_not_match_its_side_file_is_refused(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(DEFAULT_CHECKPOINT.parent, folder)
    checkpoint = folder / DEFAULT_CHECKPOINT.name
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    line = last_line(pipeline, "model_server_sub", "--checkpoint", checkpoint, code=USAGE)
    assert checkpoint.name in line


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A folder that nobody can make, not even root."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


@pytest.mark.parametrize(
    ("script", "option"),
    [
        ("app_1", "--ids"),
        ("app_2", "--db"),
        ("model_server_pub", "--queue"),
        ("model_server_sub", "--queue"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(
    pipeline: Pipeline, nowhere: Path, script: str, option: str
) -> None:
    line = last_line(pipeline, script, option, nowhere / "file.txt", code=FAILED)
    assert str(nowhere) in line


def test_the_folder_of_the_ids_is_made_as_those_of_the_queue_and_the_db_are(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    ids = tmp_path / "new" / "ids.txt"
    pipeline.start("app_1", "--count", 3, "--ids", ids).end()
    assert len(ids.read_text().split()) == 3


def test_the_embedded_brokers_folder_that_cannot_be_written_is_named(
    pipeline: Pipeline, nowhere: Path
) -> None:
    line = last_line(pipeline, "app_1", code=USAGE, LOCAL_BROKER_PATH=str(nowhere))
    assert "LOCAL_BROKER_PATH" in line


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="another process's limits: Linux")
@pytest.mark.parametrize("victim", ["app_2", "sub"])
def test_a_full_disk_is_waited_out_and_nothing_is_lost(pipeline: Pipeline, victim: str) -> None:
    scripts = {"sub": pipeline.sub(), "pub": pipeline.pub(), "app_2": pipeline.app_2()}
    for script in scripts.values():
        script.ready()
    # No byte beyond the first 50,000 of any file: the kernel's answer to every write is an error.
    process = psutil.Process(scripts[victim].process.pid)
    unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    pipeline.app_1("--count", 2000).end()
    scripts[victim].says("; waiting")
    assert pipeline.stored() < 2000
    process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    pipeline.wait_for_rows(2000)
    for script in scripts.values():
        script.terminate()
    pipeline.assert_each_stored_once()


def test_a_working_directory_that_was_removed_is_named(pipeline: Pipeline) -> None:
    nowhere = pipeline.folder / "nowhere"
    nowhere.mkdir()
    command = [*pipeline.command("model_server_pub"), "--config-dir", str(pipeline.config_dir)]
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command, "--queue", "log.txt"],
        cwd=nowhere,
        env={**clean_environment(), **pipeline.broker.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the working directory was removed: start it in one that is there" in done.stderr

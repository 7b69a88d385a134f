"""What is no place for a queue or a DB: folders, devices, files of other programs, empty names."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, open_database
from Modelling import predict_cnn, promote, quantise
from Modelling.training.options import parse_options
from Queue import QueueConfigurationError, open_queue
from tests.cli.test_places import parser_of
from tests.queue_conformance.stories import numbered

NOISE = random.Random(7).randbytes(100_000)

# How a queue and a DB are opened: to work on, and by those who look.
OPENED: list[tuple[Callable[[Path], object], type[Exception]]] = [
    (open_queue, QueueConfigurationError),
    (lambda path: open_queue(path, read_only=True).status(), QueueConfigurationError),
    (lambda path: open_queue(path, read_only=True).verify(), QueueConfigurationError),
    (open_database, DatabaseConfigurationError),
    (lambda path: open_database(path, read_only=True).summary(), DatabaseConfigurationError),
    (lambda path: open_database(path, read_only=True).verify(), DatabaseConfigurationError),
    (lambda path: list(open_database(path, read_only=True)), DatabaseConfigurationError),
    (lambda path: open_database(f"sqlite:///{path}"), DatabaseConfigurationError),
]
NAMES = [
    "queue", "queue status", "queue verify", "DB", "DB summary", "DB verify", "DB rows", "sqlite",
]  # fmt: skip


@pytest.mark.parametrize(("attempt", "refusal"), OPENED, ids=NAMES)
def test_a_folder_or_a_device_is_no_file_and_waiting_would_not_help(
    tmp_path: Path, attempt: Callable[[Path], object], refusal: type[Exception]
) -> None:
    for place, kind in ((tmp_path, "a folder"), (Path(os.devnull), "a device or pipe")):
        with pytest.raises(refusal, match=f"is {kind}, not a file: name a file with --"):
            attempt(place)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + NOISE, id="a picture"),
        pytest.param(NOISE, id="noise"),
        pytest.param(b"milk, eggs", id="a line without an end"),
        pytest.param(b"milk\neggs\n", id="lines"),
    ],
)
@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [pytest.param(*OPENED[n], id=NAMES[n]) for n in (0, 3, 4, 5, 6)],
)
def test_a_file_of_another_program_stays_as_it_is_and_nothing_is_made_beside_it(
    tmp_path: Path, content: bytes, attempt: Callable[[Path], object], refusal: type[Exception]
) -> None:
    place = tmp_path / "mine.txt"
    place.write_bytes(content)
    with pytest.raises(refusal, match=r"is not a (DB|log)"):
        attempt(place)
    assert place.read_bytes() == content
    assert list(tmp_path.iterdir()) == [place]


def test_a_text_of_ours_of_which_the_disk_has_left_nothing_but_noise_is_no_other_programs(
    tmp_path: Path,
) -> None:
    log, db = tmp_path / "log.txt", tmp_path / "db.txt"
    with open_queue(log) as queue, open_database(db) as results:
        queue.put(numbered(3))
        results.insert([{"id": "1", "label": "7"}])
    for each in (log, db):
        each.write_bytes(NOISE)
    with open_queue(log) as queue, open_database(db) as results:
        queue.put(numbered(1, 3))
        results.insert([{"id": "2", "label": "7"}])
        assert [row["id"] for row in results] == ["2"]


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("app_2", ["--subscription", ""], "the name is empty"),
        ("app_2", ["--metrics-host", ""], "the name is empty"),
        ("app_2", ["--metrics-host", "\udcff"], "is no name of a host"),
        ("app_2", ["--metrics-host", "a..b"], "'a..b' is no name of a host"),
        ("Pipeline.page.__main__", ["--host", ""], "the name is empty"),
        ("DB.__main__", ["get", "\udcff"], "is not UTF-8"),
        ("model_server_sub", ["--subscription", ""], "the name is empty"),
        ("model_server_sub", ["--state-dir", os.devnull], "is a file, not a folder"),
        ("model_server_sub", ["--top", "-1"], "'-1' is not a whole number of at least 0"),
        ("MessageBroker.__main__", ["backlog", "--subscription", ""], "the name is empty"),
        ("MessageBroker.__main__", ["ping", "--config-dir", ""], "the name is empty"),
        ("DB.__main__", ["summary", "--plot", ""], "the name is empty"),
        ("DB.__main__", ["rotate", "--keep", "-1"], "'-1' is not a whole number of at least 0"),
        ("Pipeline.page.together", ["--folder", ""], "the name is empty"),
        ("Pipeline.page.together", ["--folder", os.devnull], "is a file, not a folder"),
    ],
)
def test_an_option_that_names_nothing_is_told(
    module: str, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser_of(module).parse_args(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (parse_options, ["--data", ""], "the name is empty"),
        (parse_options, ["--output", ""], "the name is empty"),
        (parse_options, ["--epochs", "many"], "'many' is not a whole number of at least 1"),
        (parse_options, ["--seed", "1.5"], "'1.5' is not a number from 0 to 4,294,967,295"),
        (parse_options, ["--validation-ratio", "half"], "'half' is not a number between 0 and 1"),
        (parse_options, ["--outliers", "nan"], "'nan' is not a number from 0 to 1"),
        (predict_cnn.main, [""], "the name is empty"),
        (predict_cnn.main, ["--threads", "all", "a.png"], "'all' is not a number of threads"),
        (promote.main, [""], "the name is empty"),
        (quantise.main, [""], "the name is empty"),
        (quantise.main, ["a.h5", "--labels", ""], "the name is empty"),
    ],
)
def test_so_it_is_by_the_commands_on_models(
    main: Callable[[list[str]], object],
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_top_0_adds_nothing_as_its_help_says() -> None:
    assert importlib.import_module("model_server_sub").parser().parse_args(["--top", "0"]).top == 0

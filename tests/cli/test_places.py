"""The place of a queue or a DB, as people give it: what it shows, and what it is taken for."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from DB import DatabaseConfigurationError, open_database
from Queue import QueueConfigurationError, open_queue

SECRET = "canary-7f3a"
URL = f"postgresql://me:{SECRET}@host/db"


def parser_of(module: str) -> argparse.ArgumentParser:
    named = importlib.import_module(module)
    make = named.parser if hasattr(named, "parser") else named._parser
    parser: argparse.ArgumentParser = make()
    return parser


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("model_server_sub", []),
        ("model_server_pub", []),
        ("app_2", []),
        ("Pipeline.watch.__main__", []),
        ("Pipeline.page.__main__", []),
        ("Queue.__main__", ["status"]),
        ("DB.__main__", ["summary"]),
        ("DB.__main__", ["import"]),
    ],
)
def test_neither_help_nor_an_error_shows_what_the_environment_names(
    module: str,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RESULT_QUEUE", f"redis://me:{SECRET}@host/0")
    monkeypatch.setenv("RESULT_DB", URL)
    for arguments in (["--help"], ["--no-such-option"], [URL, URL, f"--password={SECRET}"]):
        with pytest.raises(SystemExit):
            parser_of(module).parse_args([*command, *arguments])
    shown = "".join(capfd.readouterr())
    assert "RESULT_" in shown
    assert "usage: " in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "place",
    [
        f"redis:/:{SECRET}@host/0",
        f"redis:{SECRET}@host",
        f" redis://:{SECRET}@host/0",
        f"//me:{SECRET}@host/0",
        f"me:{SECRET}@host/db",
        f"postgresql:/me:{SECRET}@host/db",
        f"jdbc:postgresql://host/db?user=me&password={SECRET}",
        f"host=there dbname=db password={SECRET}",
        f"a_file?password={SECRET}",
    ],
)
def test_what_was_meant_as_a_url_becomes_no_file(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for read_only in (False, True):
        with pytest.raises(QueueConfigurationError, match="looks like a URL") as of_queue:
            open_queue(place, read_only=read_only)
        with pytest.raises(DatabaseConfigurationError, match="looks like a URL") as of_db:
            open_database(place, read_only=read_only)
        assert SECRET not in str(of_queue.value) + str(of_db.value)
    for module, option in (("app_2", "--db"), ("model_server_pub", "--queue")):
        with pytest.raises(SystemExit) as ended:
            parser_of(module).parse_args([option, place])
        assert ended.value.code == 2
    assert SECRET not in "".join(capfd.readouterr())
    assert not list(tmp_path.iterdir())


def test_a_file_may_be_called_so_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("./redis:x", "plain.txt", "a:b", str(tmp_path / "me:x@y")):
        open_queue(place).close()
        assert Path(place).exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("Queue.__main__", ["--queue=log.txt", "status"]),
        ("DB.__main__", ["--db", "db.txt", "summary"]),
        ("MessageBroker.__main__", ["--broker", "kafka", "ping"]),
        ("MessageBroker.__main__", ["dead-letters", "--broker", "local", "list"]),
        ("Pipeline.backup.__main__", ["--checkpoint", "m.h5", "make", "folder"]),
    ],
)
def test_an_option_before_its_command_is_told_where_it_stands(
    module: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser_of(module).parse_args(arguments)
    assert "the options of a command stand behind it" in capsys.readouterr().err

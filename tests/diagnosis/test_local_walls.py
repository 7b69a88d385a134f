"""The embedded broker: folders and files that cannot be its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from MessageBroker import BrokerError, ConfigurationError
from tests.diagnosis.walls import expect, meet, run_process


def _a_file(folder: Path) -> Path:
    (folder / "file").write_text("not a folder")
    return folder / "file"


def _below_a_file(folder: Path) -> Path:
    return _a_file(folder) / "broker"


def _a_text(folder: Path) -> Path:
    (folder / "broker").mkdir()
    (folder / "broker" / "catalogue.sqlite").write_text("this is no database " * 100)
    return folder / "broker"


WALLS: dict[str, tuple[Callable[[Path], Path], type[BrokerError], str]] = {
    "a file": (_a_file, ConfigurationError, "LOCAL_BROKER_PATH"),
    "below a file": (_below_a_file, ConfigurationError, "LOCAL_BROKER_PATH"),
    "not its files": (_a_text, ConfigurationError, "catalogue.sqlite"),
}


@pytest.mark.parametrize("name", WALLS)
def test_a_folder_that_cannot_be_the_brokers_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    make, kind, says = WALLS[name]
    path = make(tmp_path)
    monkeypatch.setenv("LOCAL_BROKER_PATH", str(path))
    expect(meet("local"), kind, says, str(path))


def test_a_process_ends_with_one_line(tmp_path: Path) -> None:
    ended = run_process(
        *("-m", "MessageBroker", "ping", "--broker", "local"),
        environment={"LOCAL_BROKER_PATH": str(_a_text(tmp_path))},
    )
    assert ended.code == 2, ended.output
    assert len(ended.output.strip().splitlines()) == 1

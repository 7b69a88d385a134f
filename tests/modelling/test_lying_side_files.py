"""Side files that lie, or are none: each is refused in one line, before anything is made of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from Modelling.classifier import load_classifier
from Modelling.errors import CheckpointError
from Modelling.network.checkpoint import open_checkpoint, side_file_path
from Modelling.promote import back, main
from tests.modelling.foreign import colours_onnx, write_side

TOO_LARGE_FOR_A_FLOAT = 10**400
OF_NOBODY = {"sha256": "0" * 64}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"mean": TOO_LARGE_FOR_A_FLOAT}, "int too large"),
        ({"input_range": [0, TOO_LARGE_FOR_A_FLOAT]}, "int too large"),
        ({"input_shape": [20_000, 20_000, 3]}, "a picture may have 67,108,864 values"),
        ({"file": ".."}, "file must be a name without a folder"),
        ({"file": "a\0b"}, "file must be a name without a folder"),
        ({"file": "\ud800"}, "file must be a name without a folder"),
        ({"engines": {"int8": {"file": "a\0b", **OF_NOBODY}}}, r"int8\.file is no name"),
        ({"engines": {"int8": {"file": "/", **OF_NOBODY}}}, r"int8\.file is no name"),
        ({"engines": {"../../int8": {"file": "a", **OF_NOBODY}}}, "is no name of an engine"),
        ({"labels": ["x" * 1001, "b", "c"]}, "labels have at most 1000 characters"),
        ({"labels": ["a", "b"]}, "tells 3 classes apart, but its side file names 2"),
        ({"labels": 3}, "labels must be a list"),
        ({"mean": [0.5, 0.5]}, "one for each of 3 channels"),
        ({"std": float("nan")}, "std must be a number"),
        ({"lables": ["a", "b", "c"]}, "unknown key 'lables'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(said: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "a.onnx")
    write_side(path, **said)
    with pytest.raises(CheckpointError, match=reason) as refused:
        open_checkpoint(path, patience=0)
        load_classifier(path)
    assert len(str(refused.value).splitlines()) == 1


def lfs_pointer(side: Path) -> None:
    side.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")


def page(side: Path) -> None:
    side.write_text("\ufeff<!DOCTYPE html><title>Not found</title>")


def not_utf8(side: Path) -> None:
    side.write_bytes(b'{"labels": ["\xff"]}')


def folder(side: Path) -> None:
    side.mkdir()


def pipe(side: Path) -> None:
    os.mkfifo(side)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lfs_pointer, "git lfs pull"),
        (page, "a page of the web"),
        (not_utf8, "can't decode byte 0xff"),
        (folder, "a folder"),
        (pipe, "a pipe or a device"),
    ],
)
def test_what_is_no_side_file_is_told(make: Any, reason: str, tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "a.onnx")
    make(side_file_path(path))
    told: list[str] = []

    def look() -> None:
        try:
            open_checkpoint(path, patience=0)
        except CheckpointError as error:
            told.append(str(error))

    looking = threading.Thread(target=look, daemon=True)  # a pipe may keep whoever opens it
    looking.start()
    looking.join(30)
    assert len(told) == 1, "it is still being read"
    assert reason in told[0]


@pytest.mark.parametrize("previous", ['["a"]', '{"file": "..", "sha256": "0"}', '{"file": ""}'])
def test_there_is_no_way_back_to_what_is_no_side_file(previous: str, tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "a.onnx")
    path.with_name("a.onnx.json").write_text(f'{{"previous": {previous}}}')
    with pytest.raises(CheckpointError, match=r"previous|names no file"):
        back(path)


@pytest.mark.parametrize("served", ["/", "."])
def test_nothing_is_promoted_to_where_no_file_can_be(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--back", "--served", served]) == 2
    assert "promote: " in capsys.readouterr().err

"""`python -m DB compare`: what a shadow says beside what was served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from DB import open_database
from DB.__main__ import main
from DB.compare import EXACT_UP_TO, sign_test

MODEL = "new@1"


def row(number: int, label: str, confidence: float, **more: Any) -> dict[str, Any]:
    times = {"received_at": "2026-01-01T00:00:00.000Z", "predicted_at": "2026-01-01T00:00:00.010Z"}
    return {"id": f"i{number}", "label": label, "confidence": confidence, **times, **more}


@pytest.fixture
def place(tmp_path: Path) -> str:
    where = str(tmp_path / "db.txt")
    served = [
        row(n, "7", 0.9, model="old@1", expected_label="7" if n < 8 else "1") for n in range(10)
    ]
    shadow = [row(n, "7" if n != 9 else "1", 0.8, model=MODEL) for n in range(2, 10)]
    shadow.append(row(99, "7", 0.8, model=MODEL))
    with open_database(where) as db:
        db.insert(served)
        db.insert_shadow(shadow)
    return where


def test_agreement_coverage_and_accuracy_are_counted(
    place: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "compared.png"
    assert main(["compare", "--db", place, "--json", "--plot", str(picture)]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["model"], told["results"], told["compared"]) == (MODEL, 10, 8)
    assert (told["coverage"], told["answers_without_result"]) == (0.8, 1)
    assert told["agreement"] == 7 / 8
    assert told["differences"] == [{"served": "7", "shadow": "1", "count": 1}]
    assert told["confidence_shift"] == pytest.approx(-0.1)
    assert (told["served_accuracy"], told["shadow_accuracy"]) == (6 / 8, 7 / 8)
    assert (told["only_served_right"], told["only_shadow_right"]) == (0, 1)
    assert told["sign_test_p"] == 1.0
    assert told["served_latency_p50"] == pytest.approx(0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["compare", "--db", place]) == 0
    told = capsys.readouterr().out
    assert "coverage     8 of 10 results" in told
    assert told.count("latency ") == 1


def drawn(served: list[Any], shadow: list[Any], folder: Path) -> str:
    """Draw a comparison and return the words in it."""
    where, picture = str(folder / "db.txt"), folder / "compared.svg"
    with open_database(where) as db:
        db.insert(served)
        db.insert_shadow(shadow)
    with mpl.rc_context({"svg.fonttype": "none"}):
        assert main(["compare", "--db", where, "--plot", str(picture)]) == 0
    return picture.read_text()


def test_a_picture_of_what_agrees_everywhere_says_so(tmp_path: Path) -> None:
    rows = [row(n, "7", 0.9, model="old@1") for n in range(3)]
    words = drawn(rows, [{**each, "model": MODEL} for each in rows], tmp_path)
    assert "not a single one" in words
    assert "no expected labels known" in words
    assert "100.00% alike" in words


def test_a_picture_of_a_shadow_whose_results_are_not_there_says_so(tmp_path: Path) -> None:
    words = drawn([], [row(1, "7", 0.9, model=MODEL)], tmp_path)
    assert "no result has an answer of the shadow" in words
    assert "no times" in words


def test_a_picture_has_room_for_labels_that_are_whole_texts(tmp_path: Path) -> None:
    served = [row(n, f"a {n} " + "very long " * 20, 0.9, model="old@1") for n in range(3)]
    shadow = [row(n, f"a {n} " + "very long " * 30, 0.9, model=MODEL) for n in range(3)]
    words = drawn(served, shadow, tmp_path)
    assert "a 1 very long very … → a 1 very long very …" in words
    assert "very long " * 20 not in words


def test_answers_beyond_what_is_held_in_memory_are_told(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("DB.compare.MAX_ANSWERS", 5)
    assert main(["compare", "--db", place, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["compared"], told["answers_left_out"]) == (5, 4)
    assert main(["compare", "--db", place]) == 0
    assert "left out     4 answers of shadows: 5 are held" in capsys.readouterr().out


def test_answers_without_labels_agree_where_their_fields_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "db.txt")
    with open_database(where) as db:
        db.insert([{"id": f"i{n}", "model": "old@1", "score": n} for n in range(4)])
        db.insert_shadow([{"id": f"i{n}", "model": MODEL, "score": n // 2 * 2} for n in range(4)])
    assert main(["compare", "--db", where, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["compared"], told["agreement"]) == (4, 0.5)
    assert told["differences"] == [{"served": "(none)", "shadow": "(none)", "count": 2}]


def test_a_db_without_shadows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(tmp_path / "db.txt") as db:
        db.insert([row(1, "7", 0.9)])
    assert main(["compare", "--db", str(tmp_path / "db.txt")]) == 1
    assert "no answers of a shadow" in capsys.readouterr().err


def test_the_sign_test_is_that_of_the_tables() -> None:
    assert sign_test(0, 0) is None
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(2, 8) == pytest.approx(0.109375)
    half = EXACT_UP_TO // 2
    exact, approximate = sign_test(half - 30, half + 30), sign_test(half - 29, half + 30)
    assert exact == pytest.approx(approximate, rel=0.1)

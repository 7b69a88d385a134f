"""What `python -m DB summary` and `verify` say."""

import json
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from DB import DatabaseUnavailableError
from DB.report import as_text
from DB.summary import MAX_BINS, MAX_NAMES, OTHER
from DB.text.database import TextDatabase
from DurableText import codec
from tests.db.reading import summarise, verify

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(number, stored, latency, label="7", expected="7", model="m@1"):
    values = {
        "id": f"id-{number}",
        "label": label,
        "model": model,
        "published_at": stamp(stored - latency),
        "stored_at": stamp(stored),
    }
    if expected is not None:
        values["expected_label"] = expected
    return values


def stamp(seconds):
    moment = START + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write(path, rows):
    lines = [codec.frame(json.dumps(values).encode()[:-1]) for values in rows]
    path.write_bytes(b"".join(lines))


def run(*arguments):
    command = [sys.executable, "-m", "DB", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "db.txt"


def test_counts_accuracy_and_confusions_are_those_of_the_rows(path):
    write(
        path,
        [row(n, n, 0.1, label="7", expected="7") for n in range(6)]
        + [row(6, 6, 0.1, label="1", expected="7"), row(7, 7, 0.1, label="1", expected="7")]
        + [row(8, 8, 0.1, label="4", expected="9"), row(9, 9, 0.1, label="4", expected=None)],
    )
    summary = summarise(path)
    assert summary.rows == 10
    assert summary.labels == {"7": 6, "1": 2, "4": 2}
    assert (summary.known, summary.correct) == (9, 6)
    assert summary.accuracy == pytest.approx(6 / 9)
    assert summary.confusions == [("7", "1", 2), ("9", "4", 1)]
    assert summary.models == {"m@1": 10}


def test_percentiles_of_the_latency_are_right_to_one_per_cent(path):
    write(path, [row(n, 1000, (n + 1) / 100) for n in range(1000)])
    summary = summarise(path)
    assert summary.latency_p50 == pytest.approx(5.0, rel=0.01)
    assert summary.latency_p95 == pytest.approx(9.5, rel=0.01)
    assert summary.latency_p99 == pytest.approx(9.9, rel=0.01)
    assert summary.latency_max == pytest.approx(10.0)


def test_throughput_is_counted_from_the_first_insert_to_the_last(path):
    write(path, [row(n, n / 100, 0.1) for n in range(1001)])
    summary = summarise(path)
    assert summary.throughput == pytest.approx(100, rel=0.01)
    assert summary.first_stored_at == START
    assert sum(rate for _, rate in summary.time_line) == pytest.approx(1001)


def test_a_throughput_below_one_is_not_told_as_none(path):
    write(path, [row(n, n * 4, 0.1) for n in range(11)])
    assert "throughput   0.28 results/s" in as_text(summarise(path))


def test_memory_does_not_grow_with_names_and_time(path):
    write(path, [row(n, n * 3600, 0.1, label=f"label {n}") for n in range(4000)])
    summary = summarise(path)
    assert len(summary.labels) <= MAX_NAMES + 1
    assert summary.labels[OTHER] == 4000 - MAX_NAMES
    assert sum(summary.labels.values()) == 4000
    assert len(summary.time_line) <= MAX_BINS


@pytest.mark.parametrize("pause", [7 * 86_400, -365 * 86_400])
def test_the_time_line_goes_on_after_a_long_pause_and_if_the_clock_was_set(path, pause):
    write(path, [row(n, n + (n >= 60) * pause, 0.1) for n in range(120)])
    line = summarise(path).time_line
    width = line[1][0] - line[0][0]
    assert sum(rate * width for _, rate in line) == pytest.approx(120)
    assert len(line) <= MAX_BINS


def test_rows_of_other_programs_with_fewer_fields_are_counted_too(path):
    write(path, [{"id": "a"}, {"id": "b", "label": 7, "published_at": "yesterday"}])
    summary = summarise(path)
    assert summary.rows == 2
    assert summary.labels == {"(none)": 1, "7": 1}
    assert summary.accuracy is None
    assert summary.latency_p50 is None


def test_an_empty_db_has_an_empty_summary(path):
    path.write_bytes(b"")
    assert summarise(path).rows == 0
    assert "results      0" in run("summary", "--db", path).stdout


def test_the_command_prints_text_json_and_a_picture(path, tmp_path):
    write(path, [row(n, n / 10, 0.1) for n in range(100)])
    text = run("summary", "--db", path)
    assert text.returncode == 0
    assert "accuracy     100.0000% (100 of 100 right)" in text.stdout
    values = json.loads(run("summary", "--db", path, "--json").stdout)
    assert values["rows"] == 100
    assert set(values["latency_seconds"]) == {"p50", "p95", "p99", "max"}
    picture = tmp_path / "new folder" / "summary.png"
    drawn = run("summary", "--db", path, "--plot", picture)
    assert drawn.returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    for made in (picture, picture.parent):  # it shows what the DB holds, and is for as few
        assert made.stat().st_mode & 0o007 == 0


def test_what_cannot_be_read_or_drawn_is_one_line_and_exit_code_1(path, tmp_path):
    missing = run("summary", "--db", path)
    assert missing.returncode == 1
    assert str(path) in missing.stderr
    assert "Traceback" not in missing.stderr
    path.write_bytes(b"")
    drawn = run("summary", "--db", path, "--plot", "/dev/null/x.png")
    assert drawn.returncode == 1
    assert drawn.stderr == "cannot draw /dev/null/x.png: Not a directory\n"
    assert run("summary", "--nonsense").returncode == 2


@pytest.mark.parametrize("name", ["summary", "summary.nonsense"])
def test_a_name_that_is_no_pictures_is_wrong_usage(name, path, tmp_path):
    path.write_bytes(b"")
    drawn = run("summary", "--db", path, "--plot", tmp_path / name)
    assert drawn.returncode == 2
    assert "does not end in .png" in drawn.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_names_as_long_as_whole_texts_take_no_more_memory_and_are_compared_whole(path):
    long = "x" * 200_000
    write(path, [row(n, n, 0.1, f"{n}{long}", f"{n}{long}", f"{n}{long}") for n in range(100)])
    with path.open("ab") as text:
        text.write(codec.frame(json.dumps(row(100, 1, 0.1, f"{long}1", f"{long}2")).encode()[:-1]))
    tracemalloc.start()
    summary = summarise(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (summary.known, summary.correct) == (101, 100)
    assert summary.confusions == [("x" * 200 + "…", "x" * 200 + "…", 1)]
    assert peak < 20_000_000


@pytest.mark.parametrize("label", ["$a_{$", "$$", "a$b", "\0", ""])
def test_the_plot_draws_labels_that_are_no_formulas(tmp_path, label):
    write(tmp_path / "db.txt", [row(1, 1, 0.1, label, f"not {label}")])
    drawn = run("summary", "--db", tmp_path / "db.txt", "--plot", tmp_path / "summary.png")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "summary.png").stat().st_size > 10_000


def test_the_summary_imports_neither_tensorflow_nor_matplotlib():
    code = (
        "import sys, DB.__main__\n"
        "print([name for name in ('tensorflow', 'matplotlib', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_verify_finds_a_healthy_db_sound(path):
    with TextDatabase(path) as db:
        db.insert([{"id": str(n), "label": "1"} for n in range(1000)])
    found = verify(path)
    assert (found.rows, found.problem_count) == (1000, 0)
    assert run("verify", "--db", path).returncode == 0


def test_verify_lists_corrupt_lines_ids_that_stand_twice_and_a_torn_end(path):
    rows = [row(n, n, 0.1) for n in range(5)]
    write(path, [*rows, rows[3], {"label": "no id"}])
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"id-1"', b'"id-9"', 1) + b'{"id":"torn')
    found = verify(path)
    assert found.problem_count == 4
    assert [problem.split(": ", 1)[1] for problem in found.problems] == [
        "the checksum does not match the line",
        "the row has no id",
        f"id 'id-3' stands already at byte {sum(map(len, data.splitlines(True)[:3]))}",
        "11 bytes behind the last newline: a torn line; the next writer moves it to quarantine",
    ]
    done = run("verify", "--db", path)
    assert done.returncode == 1
    assert "4 problems" in done.stdout
    assert json.loads(run("verify", "--db", path, "--json").stdout)["problem_count"] == 4


def test_verify_of_nothing_is_an_error(path):
    with pytest.raises(DatabaseUnavailableError):
        verify(path)


def test_verify_of_many_conflicts_needs_no_more_memory_than_of_few(path):
    write(path, [row(1, 1, 0.1)])
    line = codec.frame(json.dumps({"id": "a", "pad": "x" * 1000}).encode()[:-1])
    path.with_name("db.conflicts.txt").write_bytes(line * 15_000)  # 15 MB
    tracemalloc.start()
    found = verify(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any(note.startswith("15,000 conflicts") for note in found.notes)
    assert peak < 10_000_000

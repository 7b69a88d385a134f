"""The table of minutes at the end of `make test`: tests/minutes.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.minutes import Minutes, folder_of, lines_of

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["tests/core/test_received.py", "tests/rules/test_minutes.py"]
IMPATIENT = "from tests import minutes; minutes.WORTH_TELLING_SECONDS = 0.0"


def test_the_folder_of_a_test_is_that_of_its_module() -> None:
    assert folder_of("tests/queue/test_fifo.py::test_a[a/b::c]") == "tests/queue"


def test_the_folder_that_took_longest_is_first_and_the_sum_last() -> None:
    assert [*lines_of({"tests/queue": 30.0, "tests/kafka": 90.0}, 66.0)] == [
        "   1.5  tests/kafka",
        "   0.5  tests/queue",
        "   2.0  all tests, in 1.1 minutes",
    ]


def test_a_short_run_ends_without_the_table() -> None:
    class Terminal:
        def section(self, title: str) -> None:
            raise AssertionError(title)

    Minutes().pytest_terminal_summary(Terminal())  # type: ignore[arg-type]


def test_a_long_run_of_shared_out_ends_with_the_table(tmp_path: Path) -> None:
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "impatient", "-k", "not a_long_run and not a_short_run", *MODULES],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("minutes by folder")[2]
    assert re.search(r"\n +\d+\.\d  tests/core\n", table), table
    assert re.search(r"\n +\d+\.\d  tests/rules\n", table), table
    assert re.search(r"\n +\d+\.\d  all tests, in \d+\.\d minutes\n", table), table

"""How `make test` shares the tests out: tests/shared_out.py."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.shared_out import group_of, turn_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/conformance/test_limits.py::test_a[kafka]", "kafka"),
        ("tests/cli/test_command.py::test_a[pubsub-publishing]", "pubsub"),
        ("tests/cli/test_command.py::test_a[publishing-pubsub]", "pubsub"),
        ("tests/conformance/test_limits.py::test_a[local]", "tests/conformance/test_limits.py"),
        ("tests/kafka/test_cluster.py::test_a", "tests/kafka"),
        ("tests/diagnosis/test_rights.py::test_a", "tests/diagnosis"),
        ("tests/queue/test_queue_fifo.py::test_a[no kafka here]", "tests/queue/test_queue_fifo.py"),
    ],
)
def test_the_tests_of_a_server_are_one_group_and_so_are_those_of_a_module(
    test: str, group: str
) -> None:
    assert group_of(test) == group


def test_what_waits_longest_starts_first_and_what_is_short_last() -> None:
    modules = ["tests/kafka", "tests/modelling/test_decoding.py", "tests/db/test_db_insert.py"]
    turns = [turn_of(group) for group in ("pubsub", *modules)]
    assert turns == sorted(turns)
    assert len(set(turns)) == len(turns)


def test_no_module_is_run_by_two_processes() -> None:
    modules = ["tests/rules/test_class_archive.py", "tests/core/test_received.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-v", "-p", "no:cacheprovider", *modules],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    processes = defaultdict(set)
    for process, module in re.findall(r"\[(gw\d)\].* PASSED (\S+?)::", done.stdout):
        processes[module].add(process)
    assert {module: len(each) for module, each in processes.items()} == dict.fromkeys(modules, 1)


def test_when_a_process_crashes_the_others_end_all_that_it_had_left(tmp_path: Path) -> None:
    """One finished several groups before: nobody is given those, and waits for their end."""
    for number in range(12):
        (tmp_path / f"test_{number:02}.py").write_text("def test_it() -> None: pass\n")
    (tmp_path / "test_09.py").write_text(
        "import os, pathlib\n"
        "def test_it() -> None:\n"
        "    been_here = pathlib.Path(__file__).with_suffix('.once')\n"
        "    if not been_here.exists():\n"
        "        been_here.touch()\n"
        "        os._exit(1)\n"
    )
    shared = [sys.executable, "-m", "pytest", "-n", "2", "-v", "-p", "tests.shared_out"]
    done = subprocess.run(
        [*shared, "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    passed = re.findall(r"PASSED \S*(test_\d\d)\.py::", done.stdout)
    assert sorted(passed) == [f"test_{number:02}" for number in range(12)], done.stdout
    assert "crashed while running" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    again = [sys.executable, "-m", "pytest", "-v", "--last-failed", "-c", "/dev/null"]
    repeated = subprocess.run(
        [*again, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.findall(r"PASSED|FAILED", repeated.stdout) == ["PASSED"], repeated.stdout
    assert "1 passed" in repeated.stdout, repeated.stdout

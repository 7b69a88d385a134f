"""Standard output and standard error may go while a program runs: it ends with its own code.

Python flushes both at its very end, and makes 120 of the code if one of them cannot be written.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")
OWN_CODE = 3

# Says that it is there, waits until its input ends, says more, and ends with a code of its own.
PROGRAM = f"""
from DurableText.program import standard_streams
standard_streams.prepare()
import logging, sys
logging.basicConfig(stream=sys.stderr)
print("ready")
print("ready", file=sys.stderr, flush=True)
sys.stdout.flush()
sys.stdin.read()
print("more")
logging.warning("more")
print("half a line", end="", file=sys.stderr)
sys.exit({OWN_CODE})
"""


def start(program: str, buffered: str, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": buffered},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
    )


def end(process: subprocess.Popen[bytes]) -> int:
    """Let it go on, and return its exit code."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(30)


def read_until(descriptor: int, text: bytes, times: int) -> None:
    said = b""
    while said.count(text) < times:
        said += os.read(descriptor, 4096)


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("both", [False, True])
def test_a_program_whose_terminal_was_closed_ends_with_its_own_code(
    buffered: str, both: bool
) -> None:
    ours, theirs = pty.openpty()
    process = start(PROGRAM, buffered, theirs if both else subprocess.DEVNULL, theirs)
    os.close(theirs)
    read_until(ours, b"ready", 2 if both else 1)

    os.close(ours)

    assert end(process) == OWN_CODE


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_program_whose_messages_nobody_reads_ends_with_its_own_code(buffered: str) -> None:
    reading_end, writing_end = os.pipe()
    process = start(PROGRAM, buffered, writing_end, writing_end)
    os.close(writing_end)
    read_until(reading_end, b"ready", 2)

    os.close(reading_end)

    assert end(process) == OWN_CODE


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_behind_the_messages_costs_the_messages_only(buffered: str) -> None:
    with FULL.open("wb") as full:
        process = start(PROGRAM, buffered, subprocess.DEVNULL, full.fileno())

    assert end(process) == OWN_CODE


def test_what_is_said_once_there_is_room_again_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    program = """
import resource, signal
from DurableText.program import standard_streams
standard_streams.prepare()
import logging, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logging.basicConfig(stream=sys.stderr, format="%(message)s")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (14, most))
for word in ("first", "second, which is cut", "third"):
    logging.warning(word)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
logging.warning("fourth")
"""
    with (tmp_path / "log").open("wb") as log:
        process = start(program, "", subprocess.DEVNULL, log.fileno())

    assert end(process) == 0
    assert (tmp_path / "log").read_text().splitlines() == ["first", "second, ", "fourth"]


def test_with_python_u_no_output_waits_in_a_buffer() -> None:
    program = """
from DurableText.program import standard_streams
standard_streams.prepare()
import sys
print("no newline", end="")
sys.stdin.read()
"""
    process = start(program, "1", subprocess.PIPE, subprocess.DEVNULL)
    assert process.stdout is not None

    said, _, _ = select.select([process.stdout], [], [], 30)  # it waits for us, and has not ended
    code = end(process)

    assert said
    assert (process.stdout.read(), code) == (b"no newline", 0)

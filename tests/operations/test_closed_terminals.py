"""A script whose terminal was closed while it ran ends as it would have ended anyway."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path
from subprocess import Popen

from tests.brokers.harness import clean_environment
from tests.pipeline.runner import PATIENCE_SECONDS, Pipeline, read_terminal


def start_in_a_terminal(
    pipeline: Pipeline, name: str, *arguments: str | Path
) -> tuple[int, Popen[bytes]]:
    """Start a script with both streams on a terminal; return that, and the process."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*pipeline.command(name), "--config-dir", str(pipeline.config_dir), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=pipeline.folder,
        # With buffers: what cannot be written is left in them, for Python's end.
        env={**clean_environment(), **pipeline.broker.environment, "PYTHONUNBUFFERED": ""},
    )
    os.close(theirs)
    return ours, process


def test_scripts_that_are_ended_after_their_terminal_was_closed_end_with_0(
    pipeline: Pipeline,
) -> None:
    """Each has its last line to say by then, and at least one message to log."""
    started = [
        start_in_a_terminal(pipeline, "model_server_sub", "--queue", pipeline.queue),
        start_in_a_terminal(pipeline, "model_server_pub", "--queue", pipeline.queue),
        start_in_a_terminal(pipeline, "app_2", "--db", pipeline.db),
        start_in_a_terminal(pipeline, "app_1", "--count", "1000000", "--rate", "1"),
    ]
    try:
        for terminal, process in started:
            read_terminal(terminal, b"at work: ")
            os.close(terminal)
            process.terminate()

        assert [process.wait(PATIENCE_SECONDS) for _, process in started] == [0, 0, 0, 0]
    finally:
        for _, process in started:
            process.kill()

"""A script whose terminal was closed while it ran ends as it would have ended anyway."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path
from subprocess import Popen

import pytest

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_scripts_that_are_ended_after_their_terminal_was_closed_end_with_0(
    number: signal.Signals,
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
            process.send_signal(number)

        assert [process.wait(PATIENCE_SECONDS) for _, process in started] == [0, 0, 0, 0]
    finally:
        for _, process in started:
            process.kill()


def test_a_hangup_that_is_meant_for_the_server_ends_nobody_else(pipeline: Pipeline) -> None:
    scripts = [
        pipeline.sub().ready(),
        pipeline.pub().ready(),
        pipeline.app_2().ready(),
        pipeline.app_1("--count", 1000, "--rate", 20).says("at work: "),
    ]
    for script in scripts:
        script.process.send_signal(signal.SIGHUP)
    pipeline.wait_for_rows(5)
    for script in reversed(scripts):
        script.terminate()

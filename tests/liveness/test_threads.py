"""A thread that dies takes the script with it, in one line of the log and with 1."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.brokers.harness import clean_environment
from tests.pipeline.runner import ROOT

SCRIPT = """
import argparse, threading
from Pipeline.script.life_cycle import run_script

def die():
    raise RuntimeError("a defect")

def main(script):
    threading.Thread(target=die, name="worker").start()
    assert script.stop.wait(30), "nobody noticed"

parser = argparse.ArgumentParser()
parser.set_defaults(log_level="info", log_format="{log_format}", metrics_port=0,
                    metrics_host="127.0.0.1", config_dir=None, state_dir=None)
run_script("script", parser, main)
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_thread_that_dies_is_logged_and_ends_the_script(log_format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{log_format}", log_format)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "'worker'" in done.stderr
    if log_format == "json":
        (line,) = map(json.loads, done.stderr.splitlines())
        assert "a defect" in line["exception"]

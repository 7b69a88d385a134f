"""Signals in the first tenths of a second, while a script is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.runner import ROOT, Pipeline

# The signal comes exactly when the module is looked for.
SIGNAL_AT_IMPORT = """
import os, signal, sys
class Signal:
    def find_spec(self, name, *_):
        if name == {module!r} and "__main__" in sys.modules:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signal())
"""


def at_import(folder: Path, module: str, number: signal.Signals) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(
        SIGNAL_AT_IMPORT.format(module=module, number=int(number))
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", ["app_1", "model_server_sub", "model_server_pub", "app_2"])
def test_control_c_while_a_script_is_imported_ends_it_quietly(
    pipeline: Pipeline, tmp_path: Path, script: str, number: signal.Signals
) -> None:
    started = pipeline.start(script, **at_import(tmp_path, "MessageBroker", number))
    assert started.process.wait(60) == 0
    assert started.output == ""


@pytest.mark.parametrize("module", ["MessageBroker", "ai_edge_litert"])
def test_a_hangup_before_the_server_is_ready_does_not_kill_it(
    pipeline: Pipeline, tmp_path: Path, module: str
) -> None:
    pipeline.sub(**at_import(tmp_path, module, signal.SIGHUP)).ready().terminate()


@pytest.mark.parametrize("script", ["app_1", "model_server_sub", "model_server_pub", "app_2"])
def test_on_another_system_a_script_says_what_it_needs(script: str) -> None:
    elsewhere = f"import os, runpy; os.name = 'nt'; runpy.run_path('{script}.py', {{}}, '__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", elsewhere], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == "Linux or macOS is needed; on Windows use WSL 2\n"

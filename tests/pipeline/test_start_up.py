"""What the scripts import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.runner import ROOT, Pipeline


@pytest.mark.parametrize("script", ["app_1", "model_server_pub", "app_2", "model_server_sub"])
def test_no_script_imports_tensorflow_or_a_client_that_it_does_not_use(script: str) -> None:
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'confluent_kafka', 'google.cloud.pubsub'}"
    code = f"import sys, {script}; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process has loaded: Linux")
def test_the_shipped_checkpoint_is_served_without_tensorflow(pipeline: Pipeline) -> None:
    sub = pipeline.sub().ready()
    maps = Path(f"/proc/{sub.process.pid}/maps").read_text()
    assert "tensorflow/python" not in maps

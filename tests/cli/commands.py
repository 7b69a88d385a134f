"""`python -m MessageBroker`, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.brokers.harness import BrokerUnderTest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "MessageBroker", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(under_test: BrokerUnderTest, *arguments: str) -> Any:
    """Run one command on the broker at hand; it must succeed; return what it says in JSON."""
    if arguments[0] == "dead-letters" and "--wait" not in arguments:
        arguments += ("--wait", "2")  # nobody was killed
    outcome = run(
        *arguments,
        "--json",
        "--broker",
        under_test.name,
        "--config-dir",
        str(under_test.config_dir),
    )
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)

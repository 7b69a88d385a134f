"""docs/asyncio.md: its program runs as it stands there, on each broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.brokers.harness import BrokerUnderTest, clean_environment
from tests.contract.documents import ROOT


def test_publishing_and_receiving_in_an_event_loop(
    under_test: BrokerUnderTest, tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "asyncio.md").read_text()
    program = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert program is not None
    (tmp_path / "program.py").write_text(program[1])
    environment = {
        **clean_environment(),
        **under_test.environment,
        "PYTHONPATH": str(ROOT),
        "MESSAGE_BROKER": under_test.name,
        "MESSAGE_BROKER_CONFIG_DIR": str(under_test.config_dir),
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", under_test.unused_name()],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr

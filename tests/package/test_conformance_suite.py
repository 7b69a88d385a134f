"""The conformance suite as the author of a handler has it: from the wheel, in their own project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from DurableText.installation import NAME
from tests.package.conftest import INSTALL_SECONDS, ROOT, Installed, build_wheel

EXAMPLE = ROOT / "examples" / "memory_broker"
SUITE_SECONDS = 600.0


def test_the_base_needs_no_pytest_and_the_suite_names_the_extra_that_brings_it(
    installed: Installed,
) -> None:
    installed.must("python", "-c", "import MessageBroker.message_broker_factory")

    done = installed.run("python", "-c", "import MessageBroker.conformance")
    assert f"pip install '{NAME}[conformance]'" in done.stderr


@pytest.mark.soak
@pytest.mark.timeout(INSTALL_SECONDS + SUITE_SECONDS)
def test_a_broker_of_another_package_passes_the_whole_suite(
    installed: Installed, wheel: Path, tmp_path: Path
) -> None:
    installed.add(f"{wheel}[conformance]")
    installed.add("--no-deps", build_wheel(EXAMPLE, tmp_path))
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "test_memory_broker.py"):
        shutil.copy(EXAMPLE / name, project)

    done = subprocess.run(
        [installed.environment / "bin" / "python", "-m", "pytest", "-q", "-m", "not soak"],
        cwd=project,
        env={"HOME": str(installed.home), "PATH": "/usr/bin:/bin", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout
    # The factory of the installed tools finds it by its entry point.
    told = installed.run("edms", "broker", "ping", "--broker", "memory")
    assert "MEMORY_BROKER_SOCKET" in told.stderr

"""The project as `pip install` brings it: a wheel, in an environment and folders of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.brokers.harness import FOREIGN_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS = 240.0
RUN_SECONDS = 60.0


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, a home, and an empty folder to work in."""

    environment: Path
    home: Path
    folder: Path

    def run(
        self, command: str, *arguments: object, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run an installed command in the empty folder."""
        foreign = {*FOREIGN_VARIABLES, "PYTHONPATH", "XDG_STATE_HOME", "XDG_CONFIG_HOME"}
        inherited = {name: value for name, value in os.environ.items() if name not in foreign}
        return subprocess.run(
            [self.environment / "bin" / command, *map(str, arguments)],
            cwd=self.folder,
            env={**inherited, "HOME": str(self.home), "MESSAGE_BROKER": "local"} | variables,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )

    def must(self, command: str, *arguments: object, **variables: str) -> str:
        """Run a command that has to end with 0; return what it prints."""
        done = self.run(command, *arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add(self, *requirements: object) -> None:
        """Install more.

        By the pip of the tests: a fresh one would be unpacked first. What is never imported is
        never compiled; both would be most of the time.
        """
        into = self.environment / "bin" / "python"
        command = [sys.executable, "-m", "pip", "--python", into, "install", "-q", "--no-compile"]
        subprocess.run([*command, *map(str, requirements)], check=True, timeout=INSTALL_SECONDS)


def build_wheel(project: Path, folder: Path) -> Path:
    """Build a project's wheel in a folder that has none."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, project], check=True, timeout=INSTALL_SECONDS)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone, without any extra, at the versions of requirements.txt."""
    folder = tmp_path_factory.mktemp("installed")
    fresh = Installed(folder / "venv", folder / "home", folder / "empty")
    fresh.home.mkdir()
    fresh.folder.mkdir()
    venv.create(fresh.environment)
    fresh.add("-c", ROOT / "requirements.txt", wheel)
    return fresh

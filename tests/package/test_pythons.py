"""Each Python and platform that the project names: resolved, and run where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.conftest import INSTALL_SECONDS, ROOT, Installed

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# macOS on Intel is not among them: neither LiteRT nor TensorFlow have wheels for it any more.
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
# Of macOS: ONNX Runtime has wheels from there on, all others are content with less.
MACOS = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
LISTS = (
    ("requirements.txt",),
    ("requirements-dev.txt",),
    ("requirements.lock",),
    ("requirements-dev.lock",),
    ("pyproject.toml", "--all-extras"),
)


def interpreter_of(python: str) -> str | None:
    """Find an interpreter that runs: shims of pyenv are there for others as well."""
    name = f"python{python}"
    installed = Path.home().glob(f".pyenv/versions/{python}.*/bin/{name}")
    for each in (name, *map(str, installed)):
        path = shutil.which(each)
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return None


@pytest.mark.soak
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_pins_resolve_to_wheels(python: str, platform: str, tmp_path: Path) -> None:
    # uv, not pip: pip judges the markers of a requirement by the Python that runs it.
    # Without the settings for `make lock`: they would hide what another tool stumbles over.
    command = ["-m", "uv", "pip", "compile", "--no-config", "--quiet", "--no-build"]
    command += ["--python-version", python, "--python-platform", platform]
    for name, *options in LISTS:
        resolve = [sys.executable, *command, ROOT / name, *options]
        done = subprocess.run(
            [*resolve, "-o", tmp_path / "resolved.txt"],
            env={**os.environ, **MACOS},
            stderr=subprocess.PIPE,
            text=True,
            timeout=INSTALL_SECONDS,
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"


@pytest.mark.soak
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_installs_and_the_pipeline_runs(python: str, wheel: Path, tmp_path: Path) -> None:
    interpreter = interpreter_of(python)
    if interpreter is None:
        pytest.skip(f"there is no Python {python} here")
    fresh = Installed(tmp_path / "venv", tmp_path / "home", tmp_path)
    fresh.home.mkdir()
    subprocess.run([interpreter, "-m", "venv", fresh.environment], check=True)
    fresh.add("--require-hashes", "-r", ROOT / "requirements.lock")
    fresh.add("--no-deps", wheel)
    fresh.must("edms", "demo", "--count", 500)
    assert (tmp_path / "demo.png").is_file()
